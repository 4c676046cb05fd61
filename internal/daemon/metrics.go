package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpTimeout bounds one request, and how long a stop waits for those in
// progress.
const httpTimeout = 5 * time.Second

// NewRegistry answers a registry with the metrics of the process and of Go's
// run time.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), configWrong, configPending)
	return reg
}

// Monitor serves /metrics for Prometheus and /healthz for whoever restarts
// the process, over plain HTTP. It shows numbers only.
type Monitor struct {
	listener net.Listener
	server   *http.Server
}

// NewMonitor listens on a TCP address. health says why the process is not
// healthy, or nil; /healthz answers 200 or 503 by it. It is called for each
// request, from any goroutine.
func NewMonitor(address string, reg prometheus.Gatherer, health func() error) (*Monitor, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process uses this port", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := health(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return &Monitor{listener: listener, server: &http.Server{
		Handler: mux, ReadTimeout: httpTimeout, WriteTimeout: 2 * httpTimeout, IdleTimeout: time.Minute,
	}}, nil
}

// Addr is where it listens.
func (m *Monitor) Addr() net.Addr { return m.listener.Addr() }

// Run serves until ctx ends, and then returns nil. It may be called once.
func (m *Monitor) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(m.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics on %s: %w", m.listener.Addr(), err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpTimeout)
	defer cancel()
	if err := m.server.Shutdown(stopCtx); err != nil {
		_ = m.server.Close() // whoever still reads has had its time
	}
	<-served
	return nil
}

// Close stops listening, for a monitor that will not Run.
func (m *Monitor) Close() { _ = m.server.Close(); _ = m.listener.Close() }
