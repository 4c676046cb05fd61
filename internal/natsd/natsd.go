// Package natsd runs the NATS server that holds Damask's state and carries its
// changes, and connects to it.
//
// It owns the server's configuration: JetStream with a file store, mutual TLS,
// and who may publish and subscribe to what, by certificate identity alone (see
// Permissions). The same server runs inside a service (embedded) or as a
// process of its own, damask-nats, alone or in a cluster. It promises that a
// client without an identity of the trust domain gets no further than the
// handshake, and that a start that cannot succeed says why in one sentence.
//
// It must not know buckets' contents, nor create streams.
//
// Used by the control services, the node agent, the CLI and damask-nats.
package natsd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/identity"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

const (
	// maxPayload is the most that NATS recommends, in bytes. The largest objects are
	// network policies that list 100,000 blocks: 3 MB as written.
	maxPayload = 8 << 20
	// startTime bounds how long a server may take to load its store and listen.
	startTime = time.Minute
	// handshakeTime bounds a TLS handshake, in seconds; a loaded machine is
	// slow, and five thousand agents may come back at once.
	handshakeTime = 10
	// syncEvery is how often a server that does not sync each write does so.
	syncEvery = 10 * time.Second
)

// Server is a running NATS server.
type Server struct {
	server  *server.Server
	lock    *os.File
	log     hclog.Logger
	numbers map[*prometheus.Desc]number
}

// Start starts a server and returns when it takes connections. The identity
// that it shows is the source's; clients accept any service's.
func Start(cfg ServerConfig, source *identity.Source, log hclog.Logger) (*Server, error) {
	log = log.Named("nats")
	s := &Server{log: log, numbers: numbers()}
	if err := s.start(cfg, source); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	return s, nil
}

func (s *Server) start(cfg ServerConfig, source *identity.Source) error {
	if err := s.lockStore(cfg.StoreDir); err != nil {
		return err
	}
	name, err := serverName(cfg)
	if err != nil {
		return err
	}
	opts, err := options(cfg, name, source, s.log)
	if err != nil {
		return err
	}
	for _, address := range cfg.listens() {
		if err := probe(address); err != nil {
			return err
		}
	}
	s.server, err = server.NewServer(opts)
	if err != nil {
		return err
	}
	logger := &serverLog{log: s.log}
	s.server.SetLoggerV2(logger, s.log.IsTrace(), false, false)
	s.server.Start()
	if !s.server.ReadyForConnections(startTime) {
		if reason := logger.fatal(); reason != "" {
			return errors.New(reason)
		}
		return fmt.Errorf("not ready after %v", startTime)
	}
	s.log.Info("nats server listens", "address", s.server.Addr().String(), "store", cfg.StoreDir, "server", name)
	return nil
}

// Stop stops the server: clients are told to go elsewhere, and the store is
// written out. It may be called more than once.
func (s *Server) Stop() {
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
	if s.lock != nil {
		_ = s.lock.Close() // ends the lock
		s.lock = nil
	}
}

// URL answers the address for clients on this machine.
func (s *Server) URL() string {
	address := s.server.Addr().(*net.TCPAddr)
	host := address.IP.String()
	if address.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "tls://" + net.JoinHostPort(host, strconv.Itoa(address.Port))
}

// lockStore makes sure that no other server uses the store: two would destroy
// it.
func (s *Server) lockStore(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create store directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open store directory: %w", err)
	}
	s.lock = lock
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("another process uses the store directory %s", dir)
	}
	if err != nil {
		return fmt.Errorf("lock store directory %s: %w", dir, err)
	}
	return nil
}

// probe says clearly why an address cannot be listened on, which the server
// itself does not.
func probe(address string) error {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: another process uses this port", address)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener.Close()
}

// serverName answers the configured name, or one that was drawn when the store
// was made. Servers of a cluster know one another by it, also after a restart.
func serverName(cfg ServerConfig) (string, error) {
	if cfg.Name != "" {
		return cfg.Name, nil
	}
	path := filepath.Join(cfg.StoreDir, "name")
	data, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(data)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the server's name: %w", err)
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	name := "nats-" + hex.EncodeToString(random[:])
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the server's name: %w", err)
	}
	return name, nil
}

func options(cfg ServerConfig, name string, source *identity.Source, log hclog.Logger) (*server.Options, error) {
	host, port, err := split(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	opts := &server.Options{
		ServerName:                 name,
		Host:                       host,
		Port:                       port,
		JetStream:                  true,
		StoreDir:                   cfg.StoreDir,
		SyncAlways:                 cfg.Sync != SyncPeriodic,
		SyncInterval:               syncEvery,
		TLSConfig:                  source.ServerTLS(),
		TLSTimeout:                 handshakeTime,
		AuthTimeout:                handshakeTime + 2,
		CustomClientAuthentication: &doorkeeper{source: source, log: log},
		MaxPayload:                 maxPayload,
		NoSigs:                     true,
		DisableShortFirstPing:      true,
	}
	if cfg.Cluster.Name == "" {
		return opts, nil
	}
	host, port, err = split(cfg.Cluster.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster.listen: %w", err)
	}
	opts.Cluster = server.ClusterOpts{
		Name: cfg.Cluster.Name, Host: host, Port: port,
		TLSConfig: source.PeerTLS(accessv1.Role_ROLE_NATS), TLSTimeout: handshakeTime,
	}
	for _, route := range cfg.Cluster.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	return opts, nil
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number", text)
	}
	return host, port, nil
}
