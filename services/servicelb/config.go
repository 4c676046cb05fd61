package servicelb

import (
	"fmt"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcserve"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/pool"
)

// defaultNodePorts is the range of node ports, that of Kubernetes.
const defaultNodePorts = "30000-32767"

// Config is the service's configuration file. deploy/config/servicelb.yaml is
// the reference.
type Config struct {
	// Where gRPC is served: "listen".
	rpcserve.Config `yaml:",inline"`
	// Metrics is the TCP address for Prometheus' /metrics and for /healthz,
	// "HOST:PORT". Required.
	Metrics string `yaml:"metrics"`
	// TLS is who the service is; the certificate must be /service/servicelb's.
	TLS identity.Files `yaml:"tls"`
	// Log says what is logged, and how.
	Log daemon.Log `yaml:"log"`
	// NATS is the store.
	NATS natsd.Config `yaml:"nats"`
	// ClusterIPs are the networks of cluster IPs. Empty: ipam's address plan
	// says which they are.
	ClusterIPs []string `yaml:"clusterIPs"`
	// NodePorts is the range of node ports; empty: 30000-32767.
	NodePorts string `yaml:"nodePorts"`
	// LoadBalancerIPs are the pools of load-balancer addresses.
	LoadBalancerIPs []string `yaml:"loadBalancerIPs"`
	// Selectors says that endpoints follow pods by their labels.
	Selectors bool `yaml:"selectors"`
	// IPAM is whom to ask for the address plan, when clusterIPs is empty.
	IPAM Servers `yaml:"ipam"`
	// Tenancy is whom to ask for pods, when selectors is true.
	Tenancy Servers `yaml:"tenancy"`
	// Kubernetes is the cluster whose Services are followed, if any.
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
	c.IPAM.check(r.In("ipam"))
	c.Tenancy.check(r.In("tenancy"))
	c.Kubernetes.Check(r.In("kubernetes"))
	if c.Kubernetes.Enabled && c.Selectors {
		r.Addf("selectors", "must be false when kubernetes.enabled is true: Kubernetes writes the EndpointSlices")
	}
	if len(c.ClusterIPs) == 0 && len(c.IPAM.Servers) == 0 && !c.Kubernetes.Enabled {
		r.Addf("clusterIPs", "required when ipam.servers is empty")
	}
	if c.Selectors && len(c.Tenancy.Servers) == 0 {
		r.Addf("tenancy.servers", "required when selectors is true")
	}
	readSpans(r, "clusterIPs", c.ClusterIPs, pool.ServiceNetwork)
	readSpans(r, "loadBalancerIPs", c.LoadBalancerIPs, pool.Addresses)
	if _, err := pool.Ports(c.nodePorts()); err != nil {
		r.Addf("nodePorts", "%v", err)
	}
}

func (s Servers) check(r *configfile.Report) {
	for i, server := range s.Servers {
		r.HostPort(fmt.Sprintf("servers[%d]", i), server)
	}
}

// readSpans reads ranges, and reports those that are none or overlap.
func readSpans(r *configfile.Report, field string, texts []string, read func(string) (pool.Span, error)) {
	var good []pool.Span
	for i, text := range texts {
		span, err := read(text)
		if err == nil {
			_, err = pool.New(append(good, span))
		}
		if err != nil {
			r.Addf(fmt.Sprintf("%s[%d]", field, i), "%v", err)
			continue
		}
		good = append(good, span)
	}
}

func (c *Config) nodePorts() string {
	if c.NodePorts == "" {
		return defaultNodePorts
	}
	return c.NodePorts
}

// numbers makes what is handed out of a configuration.
func (c *Config) numbers() (*catalog.Numbers, error) {
	ports, err := pool.Ports(c.nodePorts())
	if err != nil {
		return nil, fmt.Errorf("node ports: %w", err)
	}
	pools := catalog.Pools{NodePorts: ports, Given: c.Kubernetes.Enabled}
	if pools.LoadBalancers, err = spans(c.LoadBalancerIPs, pool.Addresses); err != nil {
		return nil, fmt.Errorf("load-balancer addresses: %w", err)
	}
	numbers, err := catalog.NewNumbers(pools)
	if err != nil || len(c.ClusterIPs) == 0 {
		return numbers, err
	}
	networks, err := spans(c.ClusterIPs, pool.ServiceNetwork)
	if err != nil {
		return nil, fmt.Errorf("cluster IPs: %w", err)
	}
	return numbers, numbers.SetServiceNetworks(networks)
}

func spans(texts []string, read func(string) (pool.Span, error)) ([]pool.Span, error) {
	list := make([]pool.Span, 0, len(texts))
	for _, text := range texts {
		span, err := read(text)
		if err != nil {
			return nil, err
		}
		list = append(list, span)
	}
	return list, nil
}
