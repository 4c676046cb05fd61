package attach

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// hostPorts checks what a runtime wishes of the node's ports. That another pod has one
// of them is for the lease store to say.
func (f *faults) hostPorts(ports []*cniv1.HostPort) {
	if len(ports) > mostPorts {
		f.config = append(f.config, fmt.Sprintf("host_ports: %d ports: at most %d can be given", len(ports), mostPorts))
		return
	}
	type place struct {
		protocol cniv1.Protocol
		port     uint32
		address  netip.Addr
	}
	seen := map[place]int{}
	for i, p := range ports {
		before := len(f.config)
		if n := p.GetHostPort(); n < 1 || n > 65535 {
			f.config = append(f.config, fmt.Sprintf("host_ports[%d].host_port: %d is not 1 to 65535", i, n))
		}
		if n := p.GetContainerPort(); n < 1 || n > 65535 {
			f.config = append(f.config, fmt.Sprintf("host_ports[%d].container_port: %d is not 1 to 65535", i, n))
		}
		if _, known := protocols[p.GetProtocol()]; !known {
			f.config = append(f.config, fmt.Sprintf("host_ports[%d].protocol: %d is not known", i, p.GetProtocol()))
		}
		address, err := hostAddress(p.GetHostIp())
		if err != nil {
			f.config = append(f.config, fmt.Sprintf("host_ports[%d].host_ip: %v", i, err))
		}
		if len(f.config) > before {
			continue
		}
		for at, other := range seen {
			overlap := at.address == address || !at.address.IsValid() || !address.IsValid()
			if overlap && at.protocol == protocols[p.GetProtocol()] && at.port == p.GetHostPort() {
				f.config = append(f.config, fmt.Sprintf("host_ports[%d]: is the same port as host_ports[%d]", i, other))
			}
		}
		seen[place{protocols[p.GetProtocol()], p.GetHostPort(), address}] = i
	}
}

// protocols are those that are known; none means TCP.
var protocols = map[cniv1.Protocol]cniv1.Protocol{
	cniv1.Protocol_PROTOCOL_UNSPECIFIED: cniv1.Protocol_PROTOCOL_TCP,
	cniv1.Protocol_PROTOCOL_TCP:         cniv1.Protocol_PROTOCOL_TCP,
	cniv1.Protocol_PROTOCOL_UDP:         cniv1.Protocol_PROTOCOL_UDP,
	cniv1.Protocol_PROTOCOL_SCTP:        cniv1.Protocol_PROTOCOL_SCTP,
}

// protocolWords is how protocols are written in a port's marks.
var protocolWords = map[cniv1.Protocol]string{
	cniv1.Protocol_PROTOCOL_TCP: "tcp", cniv1.Protocol_PROTOCOL_UDP: "udp", cniv1.Protocol_PROTOCOL_SCTP: "sctp",
}

// hostAddress reads the node's address that a host port is on; the zero address is all
// of them.
func hostAddress(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address of a node", text)
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return a, nil
}

// hostPortsText writes host ports for a port's marks: "tcp:8080:80,udp:53:53:192.0.2.1".
func hostPortsText(ports []*cniv1.HostPort) string {
	words := make([]string, 0, len(ports))
	for _, p := range ports {
		word := fmt.Sprintf("%s:%d:%d", protocolWords[protocols[p.GetProtocol()]], p.GetHostPort(), p.GetContainerPort())
		if a, err := hostAddress(p.GetHostIp()); err == nil && a.IsValid() {
			word += ":" + a.String()
		}
		words = append(words, word)
	}
	return strings.Join(words, ",")
}

// parseHostPorts reads what hostPortsText wrote. The empty text is none.
func parseHostPorts(text string) ([]*cniv1.HostPort, error) {
	if text == "" {
		return nil, nil
	}
	var ports []*cniv1.HostPort
	for word := range strings.SplitSeq(text, ",") {
		fields := strings.Split(word, ":")
		if len(fields) != 3 && len(fields) != 4 {
			return nil, fmt.Errorf("%q is not PROTOCOL:PORT:PORT[:ADDRESS]", word)
		}
		p := &cniv1.HostPort{}
		for protocol, name := range protocolWords {
			if name == fields[0] {
				p.Protocol = protocol
			}
		}
		if p.Protocol == cniv1.Protocol_PROTOCOL_UNSPECIFIED {
			return nil, fmt.Errorf("%q: %q is not tcp, udp or sctp", word, fields[0])
		}
		for i, number := range []*uint32{&p.HostPort, &p.ContainerPort} {
			n, err := strconv.ParseUint(fields[i+1], 10, 16)
			if err != nil {
				return nil, fmt.Errorf("%q: %q is not a port", word, fields[i+1])
			}
			*number = uint32(n)
		}
		if len(fields) == 4 {
			p.HostIp = fields[3]
		}
		ports = append(ports, p)
	}
	var f faults
	f.hostPorts(ports)
	if err := f.err(); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return ports, nil
}
