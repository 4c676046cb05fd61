package bridge

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// The two fixed OpenFlow port numbers. Flows, and operators, know them by heart.
const (
	// TunnelOFPort is the tunnel port's number.
	TunnelOFPort = 1
	// GatewayOFPort is tun0's number.
	GatewayOFPort = 2
	// FirstPodOFPort is the lowest number of a pod's port.
	FirstPodOFPort = 3
	// LastPodOFPort is the highest number that OVS lets one ask for
	// (Interface.ofport_request); above it OVS numbers ports by itself.
	LastPodOFPort = 65279

	// localOFPort is the number of the bridge's own device (OFPP_LOCAL).
	localOFPort = 65534
)

// GatewayPort is the name of the internal port that leads to the node's kernel.
const GatewayPort = "tun0"

// Datapath types, by OVS's names of them.
const (
	// SystemDatapath is the kernel module.
	SystemDatapath = "system"
	// UserspaceDatapath is ovs-vswitchd itself.
	UserspaceDatapath = "netdev"
)

// minMTU is the smallest MTU that IPv4 may rely on (RFC 791).
const minMTU = 576

// maxMTU is the biggest MTU that a Linux veth takes.
const maxMTU = 65535

// Spec is what EnsureBridge makes true.
type Spec struct {
	// DatapathType is SystemDatapath or UserspaceDatapath. Required; DatapathType
	// (the method) detects which one this machine can do.
	DatapathType string
	// Tunnel is the encapsulation between nodes. Required.
	Tunnel Tunnel
	// MTU is tun0's MTU in bytes, 576 to 65535. Required.
	MTU int
	// GatewayMAC is tun0's MAC, which flows name: so it must be the same whenever OVS
	// makes the device. A unicast one. Empty: OVS makes one up.
	GatewayMAC net.HardwareAddr
	// KeptMAC says that GatewayMAC is what tun0 had before the bridge was ours, which is
	// written down then; see the method GatewayMAC.
	KeptMAC bool
}

// validate answers one error that names every problem.
func (s Spec) validate() error {
	var problems []string
	if s.DatapathType != SystemDatapath && s.DatapathType != UserspaceDatapath {
		problems = append(problems, fmt.Sprintf("datapath type %q is none of system, netdev", s.DatapathType))
	}
	problems = append(problems, s.Tunnel.problems()...)
	if s.MTU < minMTU || s.MTU > maxMTU {
		problems = append(problems, fmt.Sprintf("MTU %d is not %d to %d", s.MTU, minMTU, maxMTU))
	}
	if mac := s.GatewayMAC; len(mac) != 0 && (len(mac) != 6 || mac[0]&1 != 0) {
		problems = append(problems, fmt.Sprintf("gateway MAC %s is no Ethernet address of one device", mac))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("bridge spec: " + strings.Join(problems, "; "))
}

// protocols that the bridge must speak. 1.3 is what operators' scripts ask for, 1.0
// what ovs-ofctl speaks when it is told nothing; bundles, as the agent uses them, came
// with 1.4. More than these are left alone.
func protocols() []string {
	return []string{"OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"}
}

// bridgeConfig is the other_config that the bridge must have. In-band control would
// add hidden flows as soon as somebody sets a controller.
func bridgeConfig() map[string]string { return map[string]string{"disable-in-band": "true"} }

// fixedPort is a port that the bridge always has.
type fixedPort struct {
	name    string
	kind    string // Interface.type
	options map[string]string
	number  int    // OpenFlow port; 0: not ours to choose
	mtu     int    // 0: not ours to choose
	mac     string // empty: not ours to choose
	kept    bool   // the MAC was there before the bridge was ours
}

// fixedPorts are the ports that a bridge of that name and spec always has.
func (s Spec) fixedPorts(bridge string) []fixedPort {
	return []fixedPort{
		{name: bridge, kind: "internal"},
		{name: s.Tunnel.PortName(), kind: string(s.Tunnel.Type), options: s.Tunnel.options(), number: TunnelOFPort},
		{name: GatewayPort, kind: "internal", number: GatewayOFPort, mtu: s.MTU, mac: s.GatewayMAC.String(), kept: s.KeptMAC},
	}
}
