package intent

import (
	"errors"
	"fmt"
	"net/netip"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

func parsePlan(cn *ipamv1.ClusterNetwork) (*plan, error) {
	p := &plan{mtu: int(cn.GetMtu()), tunnelPort: uint16(cn.GetTunnel().GetPort())}
	var errs []error
	for _, n := range cn.GetNetworks() {
		prefix, err := netip.ParsePrefix(n.GetCidr())
		errs = append(errs, err)
		p.clusterNetworks = append(p.clusterNetworks, prefix)
	}
	for _, n := range cn.GetServiceNetworks() {
		prefix, err := netip.ParsePrefix(n)
		errs = append(errs, err)
		p.serviceNetworks = append(p.serviceNetworks, prefix)
	}
	switch cn.GetTunnel().GetType() {
	case ipamv1.TunnelType_TUNNEL_TYPE_UNSPECIFIED, ipamv1.TunnelType_TUNNEL_TYPE_VXLAN:
		p.tunnel, p.tunnelPort = "vxlan", portOr(p.tunnelPort, 4789)
	case ipamv1.TunnelType_TUNNEL_TYPE_GENEVE:
		p.tunnel, p.tunnelPort = "geneve", portOr(p.tunnelPort, 6081)
	case ipamv1.TunnelType_TUNNEL_TYPE_GRE:
		p.tunnel, p.tunnelPort = "gre", 0
	default:
		errs = append(errs, fmt.Errorf("tunnel type %s is not known to this agent", cn.GetTunnel().GetType()))
	}
	if len(p.clusterNetworks) == 0 {
		errs = append(errs, errors.New("there are no cluster networks"))
	}
	return p, errors.Join(errs...)
}

// portOr answers the port, or the default that IANA registered for the tunnel.
func portOr(port, registered uint16) uint16 {
	if port == 0 {
		return registered
	}
	return port
}

func parseHostSubnet(hs *ipamv1.HostSubnet) (pipeline.Remote, error) {
	remote := pipeline.Remote{Name: hs.GetName()}
	var errs []error
	if len(hs.GetHostIps()) == 0 || len(hs.GetSubnets()) == 0 {
		return remote, fmt.Errorf("HostSubnet %s has %d host IPs and %d subnets, one of each is needed", hs.GetName(), len(hs.GetHostIps()), len(hs.GetSubnets()))
	}
	addr, err := netip.ParseAddr(hs.GetHostIps()[0])
	errs = append(errs, err)
	remote.HostIP = addr
	for _, s := range hs.GetSubnets() {
		prefix, err := netip.ParsePrefix(s)
		errs = append(errs, err)
		remote.Subnets = append(remote.Subnets, prefix)
	}
	return remote, errors.Join(errs...)
}
