package bridge

import (
	"fmt"
	"strconv"
)

// TunnelType is the encapsulation between nodes.
type TunnelType string

// The tunnel types, by OVS's names of them.
const (
	VXLAN  TunnelType = "vxlan"
	Geneve TunnelType = "geneve"
	GRE    TunnelType = "gre"
)

// Tunnel says how frames travel between nodes.
type Tunnel struct {
	// Type is VXLAN, Geneve or GRE. Required.
	Type TunnelType
	// Port is the UDP port, 1 to 65535; 4789 and 6081 are the registered ones of
	// VXLAN and Geneve. It must be 0 for GRE, which has no ports.
	Port uint16
}

// PortName is the name of the tunnel's port in the bridge: vxlan0, geneve0 or gre0.
func (t Tunnel) PortName() string { return string(t.Type) + "0" }

// Overhead is how many bytes of the underlay's MTU the tunnel takes, over IPv4: the
// inner Ethernet header (14), the outer IPv4 header (20), and 8+8 for VXLAN and for
// Geneve without options, or 8 for GRE with a key.
func (t Tunnel) Overhead() int {
	if t.Type == GRE {
		return 14 + 20 + 8
	}
	return 14 + 20 + 8 + 8
}

// options are the interface's options. "flow" leaves destination and key to flows.
func (t Tunnel) options() map[string]string {
	options := map[string]string{"key": "flow", "remote_ip": "flow"}
	if t.Port != 0 {
		options["dst_port"] = strconv.Itoa(int(t.Port))
	}
	return options
}

// problems answers everything that is wrong with t.
func (t Tunnel) problems() []string {
	switch t.Type {
	case VXLAN, Geneve:
		if t.Port == 0 {
			return []string{fmt.Sprintf("tunnel type %s needs a UDP port", t.Type)}
		}
	case GRE:
		if t.Port != 0 {
			return []string{fmt.Sprintf("tunnel type gre has no ports, got %d", t.Port)}
		}
	default:
		return []string{fmt.Sprintf("tunnel type %q is none of vxlan, geneve, gre", t.Type)}
	}
	return nil
}

// otherTunnels are the port names of the tunnel types that t is not. A leftover of
// them would hold port number 1.
func (t Tunnel) otherTunnels() []string {
	var names []string
	for _, other := range []TunnelType{VXLAN, Geneve, GRE} {
		if other != t.Type {
			names = append(names, Tunnel{Type: other}.PortName())
		}
	}
	return names
}
