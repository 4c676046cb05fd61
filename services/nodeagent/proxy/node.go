package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	maxMarkBit     = 31
	maxDeviceName  = 15
	defaultGateway = "tun0"
)

// Node is what an engine must know of the node it is on.
type Node struct {
	// ClusterNetworks are the networks of all pods. At least one, IPv4. What does not
	// come from them to a cluster IP is masqueraded, as observed: "! -s 10.128.0.0/14".
	ClusterNetworks []netip.Prefix
	// Pods is the network of this node's own pods, in ClusterNetworks. They keep their
	// address by whatever address they reach a service, so that the switch can tell
	// whose they are. Unset: by other addresses than cluster IPs they are masqueraded,
	// as kube-proxy does it, and as the pods of other nodes are.
	Pods netip.Prefix
	// Gateway is the device between the pods and the node. Empty: tun0.
	Gateway string
	// MasqueradeBit is the number, 0 to 31, of the mark bit by which a packet is to be
	// masqueraded. OpenShift's is 0, so the mark is 0x1.
	MasqueradeBit uint8
	// NodePortNetworks limit node ports to the node's addresses in them. Empty: all of
	// the node's addresses. Loopback addresses never have node ports.
	NodePortNetworks []netip.Prefix
}

// Mark is the mark that MasqueradeBit makes.
func (n Node) Mark() uint32 { return 1 << n.MasqueradeBit }

// GatewayName is Gateway or its default.
func (n Node) GatewayName() string {
	if n.Gateway == "" {
		return defaultGateway
	}
	return n.Gateway
}

// Check answers one error that names every problem, nil if there is none.
func (n Node) Check() error {
	var problems []string
	if len(n.ClusterNetworks) == 0 {
		problems = append(problems, "cluster networks are missing")
	}
	for _, p := range append(append([]netip.Prefix{}, n.ClusterNetworks...), n.NodePortNetworks...) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			problems = append(problems, fmt.Sprintf("network %v is no IPv4 network", p))
		}
	}
	if p := n.Pods; p != (netip.Prefix{}) && (!p.IsValid() || !p.Addr().Is4() || p != p.Masked()) {
		problems = append(problems, fmt.Sprintf("pods' network %v is no IPv4 network", p))
	}
	if n.MasqueradeBit > maxMarkBit {
		problems = append(problems, fmt.Sprintf("masquerade bit %d is not 0 to %d", n.MasqueradeBit, maxMarkBit))
	}
	if g := n.GatewayName(); len(g) > maxDeviceName || strings.ContainsAny(g, " \t\n/\"") {
		problems = append(problems, fmt.Sprintf("gateway %q is no device name", g))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("node: " + strings.Join(problems, "; "))
}
