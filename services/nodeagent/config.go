package nodeagent

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
)

// Config is the configuration file of damask-nodeagent.
// deploy/config/nodeagent.yaml documents every field; a test holds the two
// together. What is live comes into force in live.go.
type Config struct {
	Node             string         `yaml:"node"`
	HostIP           netip.Addr     `yaml:"hostIP"`
	NodeUID          string         `yaml:"nodeUID"`
	RequestedSubnets []netip.Prefix `yaml:"requestedSubnets"`
	Datapath         string         `yaml:"datapath"`
	Listen           string         `yaml:"listen"`
	Metrics          string         `yaml:"metrics"`
	TLS              identity.Files `yaml:"tls"`
	Log              daemon.Log     `yaml:"log"`
	IPAM             Servers        `yaml:"ipam"`
	Tenancy          Servers        `yaml:"tenancy"`
	ServiceLB        Servers        `yaml:"servicelb"`
	Egress           Servers        `yaml:"egress"`
	DNS              DNS            `yaml:"dns"`
	NATS             Servers        `yaml:"nats"`
	OVS              OVS            `yaml:"ovs"`
	CNISocket        string         `yaml:"cniSocket"`
	StateDir         string         `yaml:"stateDir"`
	AuditInterval    time.Duration  `yaml:"auditInterval" live:"true"`
	MasqueradeBit    int            `yaml:"masqueradeBit"`
	Services         Services       `yaml:"services"`
	NetworkPolicy    NetworkPolicy  `yaml:"networkPolicy"`
	Kubernetes       Kubernetes     `yaml:"kubernetes"`
	Takeover         Takeover       `yaml:"takeover"`
}

// Servers names the replicas of a service.
type Servers struct {
	Servers []string `yaml:"servers"`
}

// DNS says whom the pods of this node ask.
type DNS struct {
	Servers []netip.AddrPort `yaml:"servers" live:"true"`
}

// OVS says where Open vSwitch is.
type OVS struct {
	Database string `yaml:"database"`
	RunDir   string `yaml:"runDir"`
}

// Services says how this node programs the cluster's Services. Nothing but the
// zone, with which pods are registered, has an effect while servicelb names no
// servers.
type Services struct {
	Engine           string         `yaml:"engine"`
	Zone             string         `yaml:"zone"`
	NodePortNetworks []netip.Prefix `yaml:"nodePortNetworks"`
}

// NetworkPolicy says how this node enforces policies, in the modes in which they
// decide.
type NetworkPolicy struct {
	CutConnections bool `yaml:"cutConnections" live:"true"`
}

// Kubernetes is kube.Config without what is of a store, which an agent has not.
type Kubernetes struct {
	Enabled    bool    `yaml:"enabled"`
	Kubeconfig string  `yaml:"kubeconfig"`
	QPS        float64 `yaml:"qps"`
	Burst      int     `yaml:"burst"`
}

func (k Kubernetes) api() kube.Config {
	return kube.Config{Enabled: k.Enabled, Kubeconfig: k.Kubeconfig, QPS: k.QPS, Burst: k.Burst}
}

// Takeover says what OpenShift SDN left on a node that it had before.
type Takeover struct {
	Socket       string `yaml:"socket"`
	RuntimeCache string `yaml:"runtimeCache"`
}

// Engines of Services that the configuration can name.
const (
	engineIPTables = "iptables"
	engineNFTables = "nftables"
)

// Datapaths that the configuration can name.
const (
	datapathAuto   = "auto"
	datapathSystem = "system"
	datapathNetdev = "netdev"
)

// dns1123Subdomain is how Kubernetes names nodes (RFC 1123, lower case).
var dns1123Subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// labelValue is how Kubernetes spells the value of a label, which a zone is.
var labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)

// Defaults is what a file that names nothing means.
func Defaults() Config {
	return Config{
		Datapath:      datapathAuto,
		Listen:        "0.0.0.0:9445",
		Metrics:       "0.0.0.0:9545",
		OVS:           OVS{Database: "unix:/run/openvswitch/db.sock", RunDir: "/run/openvswitch"},
		CNISocket:     "/run/damask/cni.sock",
		StateDir:      "/var/lib/damask",
		AuditInterval: 3 * time.Minute,
		Services:      Services{Engine: engineIPTables},
		NetworkPolicy: NetworkPolicy{CutConnections: true},
		Kubernetes:    Kubernetes{QPS: 5, Burst: 10},
		Takeover:      Takeover{Socket: ancestor.DefaultSocket, RuntimeCache: ancestor.DefaultRuntimeCache},
	}
}

// Environment variables with what is each node's own, for a file that all nodes share.
// What the file says counts more.
const (
	nodeVariable   = "DAMASK_NODE"
	hostIPVariable = "DAMASK_HOST_IP"
)

// Load reads a configuration file; its error names every problem with its line.
func Load(path string) (Config, error) {
	cfg := Defaults()
	cfg.Node = os.Getenv(nodeVariable)
	if text := os.Getenv(hostIPVariable); text != "" {
		var err error
		if cfg.HostIP, err = netip.ParseAddr(text); err != nil {
			return Config{}, fmt.Errorf("environment variable %s: %w", hostIPVariable, err)
		}
	}
	if err := configfile.Load(path, &cfg, func(r *configfile.Report) { cfg.check(r) }); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// machineIdentity answers the configured identity, or this machine's own. It is
// read when the agent starts, not with the file: a file can be checked elsewhere.
func (c *Config) machineIdentity() (string, error) {
	if c.NodeUID != "" {
		return c.NodeUID, nil
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", fmt.Errorf("nodeUID is not configured and this machine has no identity: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

func (c *Config) check(r *configfile.Report) {
	if len(c.Node) > 253 || !dns1123Subdomain.MatchString(c.Node) {
		r.Addf("node", "%q is not a node name: lower-case letters, digits, hyphens and dots, at most 253", c.Node)
	}
	if !c.HostIP.Is4() || c.HostIP.IsLoopback() || c.HostIP.IsUnspecified() {
		r.Addf("hostIP", "%s is not an IPv4 address by which other nodes can reach this one", c.HostIP)
	}
	for i, p := range c.RequestedSubnets {
		if !p.Addr().Is4() || p != p.Masked() {
			r.Addf(fmt.Sprintf("requestedSubnets[%d]", i), "%s is not an IPv4 subnet in canonical form", p)
		}
	}
	switch c.Datapath {
	case datapathAuto, datapathSystem, datapathNetdev:
	default:
		r.Addf("datapath", "%q is not auto, system or netdev", c.Datapath)
	}
	r.HostPort("listen", c.Listen)
	r.HostPort("metrics", c.Metrics)
	c.TLS.Check(r.In("tls"))
	c.Log.Check(r.In("log"))
	c.IPAM.check(r.In("ipam"))
	c.Tenancy.check(r.In("tenancy"))
	c.ServiceLB.checkEach(r.In("servicelb"))
	c.Egress.checkEach(r.In("egress"))
	for i, server := range c.DNS.Servers {
		if addr := server.Addr(); !addr.Is4() || addr.IsUnspecified() || addr.IsLoopback() || server.Port() == 0 {
			r.Addf(fmt.Sprintf("dns.servers[%d]", i), "%s is not the IPv4 address and port of a server that pods reach", server)
		}
	}
	if len(c.NATS.Servers) == 0 {
		r.Addf("nats.servers", "at least one is required: an agent has no store of its own")
	}
	r.Required("ovs.database", c.OVS.Database)
	r.Required("ovs.runDir", c.OVS.RunDir)
	r.Required("cniSocket", c.CNISocket)
	r.Required("stateDir", c.StateDir)
	r.Required("takeover.socket", c.Takeover.Socket)
	r.Required("takeover.runtimeCache", c.Takeover.RuntimeCache)
	if c.AuditInterval < 10*time.Second || c.AuditInterval > 24*time.Hour {
		r.Addf("auditInterval", "%s is not between 10s and 24h", c.AuditInterval)
	}
	if c.MasqueradeBit < 0 || c.MasqueradeBit > 31 {
		r.Addf("masqueradeBit", "%d is not a bit of a 32-bit mark, 0 to 31", c.MasqueradeBit)
	}
	c.Services.check(r.In("services"))
	api := c.Kubernetes.api()
	api.Check(r.In("kubernetes"))
}

func (s Servers) check(r *configfile.Report) {
	if len(s.Servers) == 0 {
		r.Addf("servers", "at least one is required")
	}
	s.checkEach(r)
}

// checkEach is check where none is allowed.
func (s Servers) checkEach(r *configfile.Report) {
	for i, server := range s.Servers {
		r.HostPort(fmt.Sprintf("servers[%d]", i), server)
	}
}

func (s Services) check(r *configfile.Report) {
	switch s.Engine {
	case engineIPTables, engineNFTables:
	default:
		r.Addf("engine", "%q is not iptables or nftables", s.Engine)
	}
	if !labelValue.MatchString(s.Zone) {
		r.Addf("zone", "%q is not the value of a label: letters, digits, hyphens, underscores and dots, at most 63", s.Zone)
	}
	for i, p := range s.NodePortNetworks {
		if !p.Addr().Is4() || p != p.Masked() {
			r.Addf(fmt.Sprintf("nodePortNetworks[%d]", i), "%s is not an IPv4 network in canonical form", p)
		}
	}
}
