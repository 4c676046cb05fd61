package ipam

import (
	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
)

// Config is the service's configuration file. deploy/config/ipam.yaml is the
// reference.
type Config struct {
	// Where gRPC is served: "listen".
	rpcserve.Config `yaml:",inline"`
	// Metrics is the TCP address for Prometheus' /metrics and for /healthz,
	// "HOST:PORT". Required.
	Metrics string `yaml:"metrics"`
	// TLS is who the service is; the certificate must be /service/ipam's.
	TLS identity.Files `yaml:"tls"`
	// Log says what is logged, and how.
	Log daemon.Log `yaml:"log"`
	// NATS is the store.
	NATS natsd.Config `yaml:"nats"`
	// Kubernetes is the cluster whose Nodes have subnets.
	Kubernetes kube.Config `yaml:"kubernetes"`
	// InitialNetwork is the plan with which a new cluster on Kubernetes begins; nil: with
	// the one that somebody applies.
	InitialNetwork *InitialNetwork `yaml:"initialNetwork"`
}

// Load reads and checks a configuration file. The error has every problem.
func Load(path string) (Config, error) {
	var cfg Config
	err := configfile.Load(path, &cfg, cfg.check)
	return cfg, err
}

func (c *Config) check(r *configfile.Report) {
	c.Config.Check(r)
	r.HostPort("metrics", c.Metrics)
	c.TLS.Check(r.In("tls"))
	c.Log.Check(r.In("log"))
	c.NATS.Check(r.In("nats"))
	c.Kubernetes.Check(r.In("kubernetes"))
	if c.InitialNetwork != nil {
		c.InitialNetwork.check(r.In("initialNetwork"))
	}
}
