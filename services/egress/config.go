package egress

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
)

// Config is the service's configuration file. deploy/config/egress.yaml is the
// reference.
type Config struct {
	// Where gRPC is served: "listen".
	rpcserve.Config `yaml:",inline"`
	// Metrics is the TCP address for Prometheus' /metrics and for /healthz,
	// "HOST:PORT". Required.
	Metrics string `yaml:"metrics"`
	// TLS is who the service is; the certificate must be /service/egress's.
	TLS identity.Files `yaml:"tls"`
	// Log says what is logged, and how.
	Log daemon.Log `yaml:"log"`
	// NATS is the store.
	NATS natsd.Config `yaml:"nats"`
	// IPAM is whom to ask for HostSubnets and the address plan.
	IPAM Servers `yaml:"ipam"`
	// Tenancy is whom to ask for VNIDs and pods.
	Tenancy Servers `yaml:"tenancy"`
	// DNS is whom to ask for the names in firewalls.
	DNS DNS `yaml:"dns"`
	// Kubernetes is the cluster whose objects are followed, if any.
	Kubernetes kube.Config `yaml:"kubernetes"`
}

// DNS names recursive DNS servers.
type DNS struct {
	// Servers are their addresses, "IP:PORT". Empty: those of /etc/resolv.conf.
	Servers []string `yaml:"servers" live:"true"`
}

// Servers names the replicas of a service.
type Servers struct {
	// Servers are their gRPC addresses, "HOST:PORT". Required.
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
	c.IPAM.check(r.In("ipam"))
	c.Tenancy.check(r.In("tenancy"))
	c.Kubernetes.Check(r.In("kubernetes"))
	for i, server := range c.DNS.Servers {
		if _, err := netip.ParseAddrPort(server); err != nil {
			r.Addf(fmt.Sprintf("dns.servers[%d]", i), "%q is not IP:PORT", server)
		}
	}
}

func (s Servers) check(r *configfile.Report) {
	if len(s.Servers) == 0 {
		r.Addf("servers", "required")
	}
	for i, server := range s.Servers {
		r.HostPort(fmt.Sprintf("servers[%d]", i), server)
	}
}
