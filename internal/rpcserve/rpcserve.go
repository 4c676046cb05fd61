// Package rpcserve builds Damask's gRPC servers.
//
// It owns what every server must do alike: mutual TLS, the allow-list of each
// RPC, deadlines, metrics, health, and a graceful stop that ends. It promises
// that an RPC is served only to the callers that its (damask.access.v1.access)
// option names: a server that has an RPC without the option, or with one that
// cannot be enforced, refuses to start. It must not know any service.
//
// There are two kinds of server. New listens on TCP with mutual TLS and
// serves RPCs that are not local_only. NewLocal listens on a unix socket,
// whose file mode is the allow-list, and serves local_only RPCs only. The
// gRPC health service is served by both, to anybody who got in.
//
// Used by all services and the node agent.
package rpcserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcguard"
)

const (
	// stopTimeout bounds how long calls in progress may take once the server
	// is told to stop.
	stopTimeout = 10 * time.Second
	// connectionAge makes clients connect anew now and then, so that replaced
	// or expired certificates matter to long-lived connections too.
	connectionAge = time.Hour
	// clientPingMin is the most often that a client may ping; rpcdial pings
	// half as often.
	clientPingMin = 10 * time.Second
)

// Config says where a server listens.
type Config struct {
	// Listen is the TCP address for gRPC, "HOST:PORT"; port 0 takes a free
	// one. Required.
	Listen string `yaml:"listen"`
}

// Check adds to a configuration's report.
func (c Config) Check(r *configfile.Report) { r.HostPort("listen", c.Listen) }

// Server is a gRPC server. Make it with New or NewLocal, then Register the
// services, then Run it.
type Server struct {
	grpc     *grpc.Server
	health   *health.Server
	listener net.Listener
	access   *allowList
	log      hclog.Logger
	stopping context.Context
	stop     context.CancelFunc
}

// New listens on TCP. Clients are answered once Run is called. reg may be
// shared by several servers; nil counts nothing.
func New(cfg Config, source *identity.Source, log hclog.Logger, reg prometheus.Registerer) (*Server, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process uses this port", cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for gRPC: %w", err)
	}
	access := newAllowList(source)
	s, err := newServer(listener, access, log, reg, grpc.Creds(credentials.NewTLS(source.ServerTLS())))
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return s, nil
}

func newServer(listener net.Listener, access *allowList, log hclog.Logger, reg prometheus.Registerer, options ...grpc.ServerOption) (*Server, error) {
	guard, err := rpcguard.New(log, reg)
	if err != nil {
		return nil, err
	}
	s := &Server{health: health.NewServer(), listener: listener, access: access, log: log}
	// It ends the streams of a server that stops. It belongs to the server,
	// not to one call, and Run and Close end it.
	s.stopping, s.stop = context.WithCancel(context.Background())
	before := &interceptor{access: access, guard: guard, stopping: s.stopping}
	s.grpc = grpc.NewServer(append(options,
		grpc.UnaryInterceptor(before.unary),
		grpc.StreamInterceptor(before.stream),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: rpcguard.DefaultDeadline,
			Time: time.Minute, Timeout: clientPingMin,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: clientPingMin, PermitWithoutStream: true,
		}),
	)...)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	s.SetReady(false)
	return s, nil
}

// Register lets add put services on the server. It must come before Run.
func (s *Server) Register(add func(grpc.ServiceRegistrar)) { add(s.grpc) }

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// SetReady sets what the health service answers for the server as a whole:
// SERVING or NOT_SERVING, which it is at first. Clients made by rpcdial send
// calls only to servers that are SERVING; calls that arrive are served in
// either case.
func (s *Server) SetReady(ready bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
}

// Run verifies the allow-list and then serves until ctx ends: it then takes
// no more calls, lets those in progress finish for some seconds, and returns
// nil. It may be called once, and closes the listener in any case.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.access.read(s.grpc.GetServiceInfo()); err != nil {
		return fmt.Errorf("start gRPC server: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.listener) }()
	s.log.Info("serving", "address", s.listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serve gRPC on %s: %w", s.listener.Addr(), err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	s.stop()
	s.stopGracefully()
	<-served
	return nil
}

// stopGracefully lets calls in progress finish, but not for ever.
func (s *Server) stopGracefully() {
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.log.Warn("calls did not end in time, cutting them off", "timeout", stopTimeout)
		s.grpc.Stop()
		<-done
	}
}

// Close ends a server that will not Run, or no longer.
func (s *Server) Close() {
	s.stop()
	s.grpc.Stop()
	_ = s.listener.Close()
}
