package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

func clusterNetworks() resource[*ipamv1.ClusterNetwork] {
	type network = *ipamv1.ClusterNetwork
	return resource[network]{
		plural: "clusternetworks", aliases: []string{"clusternetwork"},
		short: "show the address plan",
		fetch: func(ctx context.Context, s *session, name string) ([]network, error) {
			answer, err := s.networks.ListClusterNetworks(ctx, &ipamv1.ListClusterNetworksRequest{})
			return only(answer.GetClusterNetworks(), name, network.GetName), err
		},
		name: network.GetName,
		columns: []column[network]{
			{title: "NAME", cell: network.GetName},
			{title: "CLUSTER NETWORK", cell: func(n network) string {
				return entries(n, (*ipamv1.ClusterNetworkEntry).GetCidr)
			}},
			{title: "HOST SUBNET LENGTH", cell: func(n network) string {
				return entries(n, func(e *ipamv1.ClusterNetworkEntry) string {
					return strconv.FormatUint(uint64(e.GetHostSubnetLength()), 10)
				})
			}},
			{title: "SERVICE NETWORK", cell: func(n network) string { return strings.Join(n.GetServiceNetworks(), ",") }},
			{title: "TUNNEL", wide: true, cell: tunnel},
			{title: "MTU", wide: true, cell: func(n network) string {
				if n.GetMtu() == 0 {
					return "auto"
				}
				return strconv.FormatUint(uint64(n.GetMtu()), 10)
			}},
			{title: "REVISION", wide: true, cell: func(n network) string { return strconv.FormatUint(n.GetRevision(), 10) }},
		},
	}
}

func entries(n *ipamv1.ClusterNetwork, cell func(*ipamv1.ClusterNetworkEntry) string) string {
	cells := make([]string, len(n.GetNetworks()))
	for i, e := range n.GetNetworks() {
		cells[i] = cell(e)
	}
	return strings.Join(cells, ",")
}

// tunnel prints the encapsulation, with its port if it is not the type's own.
func tunnel(n *ipamv1.ClusterNetwork) string {
	kind := n.GetTunnel().GetType()
	if kind == ipamv1.TunnelType_TUNNEL_TYPE_UNSPECIFIED {
		kind = ipamv1.TunnelType_TUNNEL_TYPE_VXLAN
	}
	name := strings.ToLower(strings.TrimPrefix(kind.String(), "TUNNEL_TYPE_"))
	if port := n.GetTunnel().GetPort(); port != 0 {
		return fmt.Sprintf("%s:%d", name, port)
	}
	return name
}

func hostSubnets() resource[*ipamv1.HostSubnet] {
	type subnet = *ipamv1.HostSubnet
	return resource[subnet]{
		plural: "hostsubnets", aliases: []string{"hostsubnet"},
		short: "show the nodes' subnets",
		fetch: func(ctx context.Context, s *session, name string) ([]subnet, error) {
			all, err := s.hostSubnets(ctx)
			return only(all, name, subnet.GetName), err
		},
		name: subnet.GetName,
		fill: fillHostSubnets,
		columns: []column[subnet]{
			{title: "NAME", cell: subnet.GetName},
			{title: "HOST", cell: subnet.GetHost},
			{title: "HOST IP", cell: func(h subnet) string { return strings.Join(h.GetHostIps(), ",") }},
			{title: "SUBNET", cell: func(h subnet) string { return strings.Join(h.GetSubnets(), ",") }},
			{title: "EGRESS CIDRS", cell: func(h subnet) string { return list(h.GetEgressCidrs()) }},
			{title: "EGRESS IPS", cell: func(h subnet) string { return list(h.GetEgressIps()) }},
			{title: "NODE UID", wide: true, cell: subnet.GetNodeUid},
			{title: "CREATED", wide: true, cell: func(h subnet) string {
				if h.GetCreateTime() == nil {
					return "-"
				}
				return h.GetCreateTime().AsTime().Format(time.RFC3339)
			}},
			{title: "REVISION", wide: true, cell: func(h subnet) string { return strconv.FormatUint(h.GetRevision(), 10) }},
		},
	}
}
