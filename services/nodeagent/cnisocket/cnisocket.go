// Package cnisocket is the agent's door for the CNI plugin: a unix socket that is
// root's, and ttrpc on it.
//
// It promises what rpcserve promises on the network: an RPC that is not local_only
// stops the server from starting, calls are counted, bounded and cannot bring the
// agent down (package rpcguard), and a stop lets calls in progress finish. Who may
// call is the socket's file mode, and once more the caller's user id.
//
// It must not know what the calls do.
package cnisocket

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/localsocket"
	"github.com/damask-sdn/damask/internal/rpcguard"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

const (
	// fileMode of the socket: root's alone.
	fileMode = 0o600
	// stopTimeout bounds how long callers may take once the server is told to
	// stop; as in rpcserve.
	stopTimeout = 10 * time.Second
)

// Server serves one socket. Make it with New, then Run it.
type Server struct {
	ttrpc    *ttrpc.Server
	listener *localsocket.Listener
	callers  callers
	log      hclog.Logger
}

// New listens; callers are answered once Run is called. reg is shared with the
// agent's other servers; nil counts nothing. A socket that another process serves
// is an error.
func New(path string, service cniv1.CNIServiceService, log hclog.Logger, reg prometheus.Registerer) (*Server, error) {
	descriptor := cniv1.File_damask_cni_v1_cni_service_proto.Services().ByName("CNIService")
	if err := rpcguard.LocalOnly(descriptor); err != nil {
		return nil, fmt.Errorf("serve the CNI plugin: %w", err)
	}
	guard, err := rpcguard.New(log, reg)
	if err != nil {
		return nil, fmt.Errorf("serve the CNI plugin: %w", err)
	}
	s := &Server{log: log}
	s.ttrpc, err = ttrpc.NewServer(
		ttrpc.WithServerHandshaker(&s.callers),
		ttrpc.WithUnaryServerInterceptor(func(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
			return guard.Unary(ctx, info.FullMethod, func(ctx context.Context) (any, error) { return method(ctx, unmarshal) })
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("serve the CNI plugin: %w", err)
	}
	cniv1.RegisterCNIServiceService(s.ttrpc, service)
	if s.listener, err = localsocket.Listen(path, fileMode); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr is the socket.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends: it then takes no more callers, lets those that are
// there finish for some seconds, and returns nil. It may be called once, and closes
// the socket in any case.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	// The calls go on when ctx ends, and end with serving.
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	served := make(chan error, 1)
	go func() { served <- s.ttrpc.Serve(logTo(serving, s.log), s.listener) }()
	s.log.Info("serving", "address", s.listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serve the CNI plugin on %s: %w", s.listener.Addr(), err)
	case <-ctx.Done():
	}
	_ = s.listener.Close()
	<-served
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.callers.gone():
	case <-timer.C:
		s.log.Warn("callers did not go in time, cutting them off", "timeout", stopTimeout)
	}
	return nil
}

// Close ends a server that will not Run, or no longer.
func (s *Server) Close() {
	_ = s.listener.Close()
	_ = s.ttrpc.Close()
}
