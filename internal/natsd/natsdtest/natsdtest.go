// Package natsdtest gives tests a real NATS server with JetStream in one call.
//
// The server is the one that package natsd runs, in this process, on a port of
// its own and with a store in the test's directory, but without certificates:
// for tests of what is stored and published. Tests of who may do what use
// natsd.Start.
package natsdtest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startTime bounds how long the server may take to start, and a client to
// connect.
const startTime = 10 * time.Second

// Server is a NATS server that lives as long as a test.
type Server struct {
	t      testing.TB
	opts   server.Options
	server *server.Server
}

// New starts a server that syncs its store now and then.
func New(t testing.TB) *Server {
	t.Helper()
	return start(t, false)
}

// NewSyncing starts a server that has each commit on disk before its answer.
func NewSyncing(t testing.TB) *Server {
	t.Helper()
	return start(t, true)
}

func start(t testing.TB, sync bool) *Server {
	t.Helper()
	s := &Server{t: t, opts: server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: sync, NoLog: true, NoSigs: true,
	}}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop, on the same port and store.
func (s *Server) Start() {
	s.t.Helper()
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("create NATS server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(startTime) {
		srv.Shutdown()
		s.t.Fatalf("NATS server is not ready after %v", startTime)
	}
	s.server = srv
	s.opts.Port = opts.Port
}

// Stop stops the server. Its store stays until the test ends.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// StoreDir answers the directory of the store.
func (s *Server) StoreDir() string { return s.opts.StoreDir }

// URL answers where the server listens; the same after Start.
func (s *Server) URL() string { return s.server.ClientURL() }

// Connect opens a connection that lives as long as the test and reconnects
// for ever.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1), nats.Timeout(startTime),
	}, opts...)
	nc, err := nats.Connect(s.URL(), opts...)
	if err != nil {
		s.t.Fatalf("connect to NATS server: %v", err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// JetStream opens a connection and its JetStream context.
func (s *Server) JetStream(opts ...nats.Option) (jetstream.JetStream, *nats.Conn) {
	s.t.Helper()
	nc := s.Connect(opts...)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatalf("open JetStream: %v", err)
	}
	return js, nc
}
