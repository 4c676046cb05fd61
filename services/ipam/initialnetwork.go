package ipam

import (
	"fmt"
	"strings"

	"github.com/damask-sdn/damask/internal/configfile"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// InitialNetwork is the address plan with which a new cluster begins. It counts once in a
// store's life, and only where neither the store nor the cluster's objects have a plan.
type InitialNetwork struct {
	// Networks are the ranges of pod addresses. At least one.
	Networks []InitialRange `yaml:"networks"`
	// ServiceNetworks are the ranges of cluster IPs, as the API server has them. At least
	// one.
	ServiceNetworks []string `yaml:"serviceNetworks"`
	// Tunnel is how packets travel between nodes.
	Tunnel InitialTunnel `yaml:"tunnel"`
	// MTU of pods in bytes. 0: each node's own choice.
	MTU uint32 `yaml:"mtu"`
}

// InitialRange is a range of pod addresses.
type InitialRange struct {
	// CIDR of the range. Required.
	CIDR string `yaml:"cidr"`
	// HostSubnetLength is how many bits of an address are the pod's within its node's
	// subnet. Required.
	HostSubnetLength uint32 `yaml:"hostSubnetLength"`
}

// InitialTunnel is how packets travel between nodes.
type InitialTunnel struct {
	// Type is "vxlan" (default), "geneve" or "gre".
	Type string `yaml:"type"`
	// Port is the UDP port; 0: the type's own.
	Port uint32 `yaml:"port"`
}

var tunnelTypes = map[string]ipamv1.TunnelType{
	"": ipamv1.TunnelType_TUNNEL_TYPE_UNSPECIFIED, "vxlan": ipamv1.TunnelType_TUNNEL_TYPE_VXLAN,
	"geneve": ipamv1.TunnelType_TUNNEL_TYPE_GENEVE, "gre": ipamv1.TunnelType_TUNNEL_TYPE_GRE,
}

// fieldNames are those of the API, as they are in a file.
var fieldNames = strings.NewReplacer("service_networks", "serviceNetworks", "host_subnet_length", "hostSubnetLength")

func (n *InitialNetwork) check(r *configfile.Report) {
	if _, known := tunnelTypes[n.Tunnel.Type]; !known {
		r.Addf("tunnel.type", "%q is not vxlan, geneve or gre", n.Tunnel.Type)
	}
	n.parse(func(field, format string, args ...any) {
		r.Addf(fieldNames.Replace(field), "%s", fieldNames.Replace(fmt.Sprintf(format, args...)))
	})
}

func (n *InitialNetwork) parse(report plan.Report) plan.Plan {
	m := &ipamv1.ClusterNetwork{
		ServiceNetworks: n.ServiceNetworks, Mtu: n.MTU,
		Tunnel: &ipamv1.Tunnel{Type: tunnelTypes[n.Tunnel.Type], Port: n.Tunnel.Port},
	}
	for _, one := range n.Networks {
		m.Networks = append(m.Networks, &ipamv1.ClusterNetworkEntry{Cidr: one.CIDR, HostSubnetLength: one.HostSubnetLength})
	}
	return plan.Parse(m, report)
}

// plan answers the plan, nil if none is configured. The configuration was checked.
func (n *InitialNetwork) plan() *plan.Plan {
	if n == nil {
		return nil
	}
	p := n.parse(func(string, string, ...any) {})
	return &p
}
