// Package lookups tells egress which names pods look up, as far as an egress firewall
// has a wildcard that means them.
//
// It owns the reading of the answers that flows copy to the agent, the memory of what
// was told, and the calls. It promises that whoever hands over a copy never waits, that a
// name is told at once, again while pods look it up, and not more often than egress asks
// for; and that what it remembers is bounded, whatever pods ask. It does not believe an
// answer: egress looks each name up itself, and its addresses never come from here. It
// must not know who may answer (flows do, see package pipeline), nor what rules do with
// a name.
package lookups

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"

	"github.com/damask-sdn/damask/services/nodeagent/frame"
)

const (
	// udpHeader is its size (RFC 768).
	udpHeader = 8
	// maxName and maxLabel bound a name (RFC 1035), without the last dot.
	maxName, maxLabel = 253, 63
)

// named answers for which name a packet has an IPv4 address, lower case and without the
// last dot. A packet that is cut in pieces, or whose answer was too long for UDP, names it
// too: the question stands at the beginning.
func named(packet []byte) (name string, ok bool) {
	p, ok := frame.Read(packet)
	if !ok || p.Protocol != frame.UDP || !p.First || len(p.Payload) < udpHeader {
		return "", false
	}
	payload := p.Payload[udpHeader:]
	var m dns.Msg
	// What is cut off is an error after the question, which stands first.
	if err := m.Unpack(payload); err != nil && len(m.Question) == 0 {
		return "", false
	}
	answers := binary.BigEndian.Uint16(payload[6:]) // By its header: what is cut off may count.
	if !m.Response || m.Opcode != dns.OpcodeQuery || m.Rcode != dns.RcodeSuccess || len(m.Question) != 1 || !m.Truncated && answers == 0 {
		return "", false
	}
	if q := m.Question[0]; q.Qtype != dns.TypeA || q.Qclass != dns.ClassINET {
		return "", false
	}
	name = strings.TrimSuffix(strings.ToLower(m.Question[0].Name), ".")
	return name, plain(name)
}

// plain says whether egress takes a name. One that it did not would keep it from taking
// those beside it.
func plain(name string) bool {
	if len(name) > maxName {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
