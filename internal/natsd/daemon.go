package natsd

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
)

// DaemonConfig is the configuration file of damask-nats.
type DaemonConfig struct {
	// ServerConfig has its fields at the top of the file.
	ServerConfig `yaml:",inline"`
	// Metrics is the HTTP address of /metrics and /healthz. Default: none.
	Metrics string `yaml:"metrics"`
	// TLS is the server's identity, service/nats. Required.
	TLS identity.Files `yaml:"tls"`
	// Log is what is logged.
	Log daemon.Log `yaml:"log"`
}

// Load reads and checks the configuration file of damask-nats.
func Load(path string) (DaemonConfig, error) {
	cfg := DaemonConfig{ServerConfig: ServerConfig{Sync: SyncAlways}}
	err := configfile.Load(path, &cfg, func(r *configfile.Report) {
		cfg.ServerConfig.Check(r)
		if cfg.Metrics != "" {
			r.HostPort("metrics", cfg.Metrics)
		}
		cfg.TLS.Check(r.In("tls"))
		cfg.Log.Check(r.In("log"))
	})
	return cfg, err
}

// Run is damask-nats: the server, until ctx ends.
func Run(ctx context.Context, cfg DaemonConfig, log hclog.Logger) error {
	source, err := identity.NewSource(cfg.TLS, log.Named("identity"))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	var running atomic.Pointer[Server]
	registry := daemon.NewRegistry()
	if cfg.Metrics != "" {
		monitor, err := daemon.NewMonitor(cfg.Metrics, registry, func() error {
			if srv := running.Load(); srv != nil {
				return srv.Healthy()
			}
			return errors.New("starting")
		})
		if err != nil {
			return err
		}
		group.Go(func() error { return monitor.Run(ctx) })
	}
	group.Go(func() error {
		srv, err := Start(cfg.ServerConfig, source, log)
		if err != nil {
			return err
		}
		defer srv.Stop()
		registry.MustRegister(srv)
		running.Store(srv)
		return srv.watch(ctx)
	})
	return group.Wait()
}

// watch returns when ctx ends, or the server stopped by itself.
func (s *Server) watch(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.server.WaitForShutdown()
	}()
	select {
	case <-ctx.Done():
		s.Stop()
		<-stopped
		return nil
	case <-stopped:
		return errors.New("nats server stopped by itself")
	}
}
