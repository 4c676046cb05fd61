package tenancy

import (
	"fmt"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
)

// Config is the service's configuration file. deploy/config/tenancy.yaml is
// the reference.
type Config struct {
	// Where gRPC is served: "listen".
	rpcserve.Config `yaml:",inline"`
	// Metrics is the TCP address for Prometheus' /metrics and for /healthz,
	// "HOST:PORT". Required.
	Metrics string `yaml:"metrics"`
	// TLS is who the service is; the certificate must be /service/tenancy's.
	TLS identity.Files `yaml:"tls"`
	// Log says what is logged, and how.
	Log daemon.Log `yaml:"log"`
	// NATS is the store.
	NATS natsd.Config `yaml:"nats"`
	// InitialIsolationMode is the mode with which a new cluster begins: "subnet",
	// "multitenant" (default), "networkpolicy" or "combined". It counts once in a store's
	// life, and only where nobody set a mode and no ClusterNetwork names one.
	InitialIsolationMode string `yaml:"initialIsolationMode"`
	// IPAM is whom to ask which nodes there are. Without it, pods of nodes that
	// are gone stay.
	IPAM Servers `yaml:"ipam"`
	// Kubernetes is the cluster whose objects are followed.
	Kubernetes kube.Config `yaml:"kubernetes"`
}

// Servers names the replicas of a service.
type Servers struct {
	// Servers are their gRPC addresses, "HOST:PORT".
	Servers []string `yaml:"servers"`
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
	if _, known := isolation.Named(c.InitialIsolationMode); !known && c.InitialIsolationMode != "" {
		r.Addf("initialIsolationMode", "%q is not subnet, multitenant, networkpolicy or combined", c.InitialIsolationMode)
	}
	for i, server := range c.IPAM.Servers {
		r.HostPort(fmt.Sprintf("ipam.servers[%d]", i), server)
	}
}

// initialMode is unspecified when none is configured. The configuration was checked.
func (c *Config) initialMode() tenancyv1.IsolationMode {
	mode, _ := isolation.Named(c.InitialIsolationMode)
	return mode
}
