package nodeagent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/hostport"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// hostPorts leads ports of the node to pods: what attachments say, in terms of rules.
type hostPorts struct {
	rules *hostport.Rules
	state *intent.State
	bit   uint8
}

// Open makes the attachment's host ports lead to it.
func (h *hostPorts) Open(ctx context.Context, a *cniv1.Attachment) error {
	mappings, err := mappingsOf(a)
	if err != nil {
		return err
	}
	return h.rules.Put(ctx, ownerOf(a), mappings)
}

// Close makes no host port lead to the attachment.
func (h *hostPorts) Close(ctx context.Context, a *cniv1.Attachment) error {
	return h.rules.Put(ctx, ownerOf(a), nil)
}

// Differences tells how an attachment's rules differ from what they should be.
func (h *hostPorts) Differences(ctx context.Context, a *cniv1.Attachment) ([]string, error) {
	mappings, err := mappingsOf(a)
	if err != nil {
		return nil, err
	}
	return h.rules.Differences(ctx, ownerOf(a), mappings)
}

// keep notes what an attachment has whose rules are there already.
func (h *hostPorts) keep(a *cniv1.Attachment) error {
	mappings, err := mappingsOf(a)
	if err == nil && len(mappings) > 0 {
		h.rules.Keep(ownerOf(a), mappings)
	}
	return err
}

// ensure compares all rules with what the state says of the node.
func (h *hostPorts) ensure(ctx context.Context, network intent.Network) ([]string, error) {
	node := hostport.Node{
		MasqueradeBit: h.bit, Pods: network.Node.Subnet, ClusterNetworks: network.Node.ClusterNetworks, Nodes: h.state.Remotes(),
	}
	if network.Node.Mode.Tenants() {
		// A namespace whose VNID is not known is a tenant: closed until it is known.
		node.Tenant = func(namespace string) bool {
			vnid, known := h.state.VNID(namespace)
			return !known || vnid != 0
		}
	}
	return h.rules.Ensure(ctx, node)
}

// has says whether pods of a namespace have host ports here.
func (h *hostPorts) has(namespace string) bool {
	return slices.Contains(h.rules.Namespaces(), namespace)
}

// any says whether any pod has host ports here.
func (h *hostPorts) any() bool { return len(h.rules.Namespaces()) > 0 }

// ownerOf names an attachment among those that have host ports.
func ownerOf(a *cniv1.Attachment) string { return a.GetContainerId() + "/" + a.GetIfname() }

// mappingsOf are an attachment's host ports.
func mappingsOf(a *cniv1.Attachment) ([]hostport.Mapping, error) {
	if len(a.GetHostPorts()) == 0 {
		return nil, nil
	}
	pod, err := podOf(a)
	if err != nil {
		return nil, err
	}
	protocols := map[cniv1.Protocol]hostport.Protocol{
		cniv1.Protocol_PROTOCOL_UNSPECIFIED: hostport.TCP, cniv1.Protocol_PROTOCOL_TCP: hostport.TCP,
		cniv1.Protocol_PROTOCOL_UDP: hostport.UDP, cniv1.Protocol_PROTOCOL_SCTP: hostport.SCTP,
	}
	var all []hostport.Mapping
	for _, p := range a.GetHostPorts() {
		m := hostport.Mapping{
			Namespace: pod.Namespace, Pod: pod.Name, HostPort: uint16(p.GetHostPort()), Protocol: protocols[p.GetProtocol()],
			To: netip.AddrPortFrom(pod.IP, uint16(p.GetContainerPort())),
		}
		if p.GetHostIp() != "" {
			address, err := netip.ParseAddr(p.GetHostIp())
			if err != nil {
				return nil, fmt.Errorf("address of host port %d: %w", p.GetHostPort(), err)
			}
			if !address.IsUnspecified() {
				m.HostIP = address
			}
		}
		all = append(all, m)
	}
	return all, nil
}
