package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/identity"
)

// DefaultAgentPort is the port of node agents' gRPC servers.
const DefaultAgentPort = 9445

// Cluster says how to reach the processes of a cluster.
type Cluster struct {
	// TLS is an operator's certificate.
	TLS identity.Files
	// IPAM, Tenancy and ServiceLB are the addresses of their replicas, "HOST:PORT".
	IPAM, Tenancy, ServiceLB []string
	// Egress are those of the egress service; none: the cluster has none.
	Egress []string
	// Agents are the addresses of node agents by node. A node that is not here
	// is asked at its first host IP and AgentPort; 0 is DefaultAgentPort.
	Agents    map[string]string
	AgentPort uint16
	// Dial opens connections; nil is plain TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// clusterFile is the file that --config names.
type clusterFile struct {
	IPAM      []string          `yaml:"ipam"`
	Tenancy   []string          `yaml:"tenancy"`
	ServiceLB []string          `yaml:"servicelb"`
	Egress    []string          `yaml:"egress"`
	AgentPort uint16            `yaml:"agentPort"`
	Agents    map[string]string `yaml:"agents"`
	TLS       identity.Files    `yaml:"tls"`
}

// loadCluster reads the file that --config names. Relative paths in it are
// meant from the file's own directory.
func loadCluster(path string) (Cluster, error) {
	file := clusterFile{AgentPort: DefaultAgentPort}
	err := configfile.Load(path, &file, func(r *configfile.Report) {
		checkAddresses(r, "ipam", file.IPAM)
		checkAddresses(r, "tenancy", file.Tenancy)
		checkAddresses(r, "servicelb", file.ServiceLB)
		if len(file.Egress) > 0 {
			checkAddresses(r, "egress", file.Egress)
		}
		if file.AgentPort == 0 {
			r.Addf("agentPort", "0 is not a port: 1 to 65535")
		}
		for node, address := range file.Agents {
			r.HostPort("agents."+node, address)
		}
		file.TLS.Check(r.In("tls"))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Cluster{}, fmt.Errorf("there is no file %s", path)
	}
	if err != nil {
		return Cluster{}, err
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&file.TLS.Certificate, &file.TLS.Key, &file.TLS.CA} {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return Cluster{
		TLS: file.TLS, IPAM: file.IPAM, Tenancy: file.Tenancy, ServiceLB: file.ServiceLB, Egress: file.Egress, Agents: file.Agents, AgentPort: file.AgentPort,
	}, nil
}

func checkAddresses(r *configfile.Report, field string, addresses []string) {
	if len(addresses) == 0 {
		r.Addf(field, "at least one HOST:PORT is required")
	}
	for i, address := range addresses {
		r.HostPort(fmt.Sprintf("%s[%d]", field, i), address)
	}
}
