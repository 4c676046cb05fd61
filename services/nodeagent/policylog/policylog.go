// Package policylog writes down what policies decide about the connections of pods
// whose namespaces ask for it.
//
// It owns the lines of the log. Flows choose and bound the packets (package pipeline), the
// state says whose flow a copy is of (package intent). It promises one line a copy, with
// constant keys, and that a packet that cannot be read makes none.
package policylog

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/frame"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// decider says what a flow has decided.
type decider interface {
	DecisionOf(cookie uint64, table uint8, src, dst netip.Addr) (intent.Decision, bool)
}

// Log writes decisions. It is for one goroutine.
type Log struct {
	decider decider
	log     hclog.Logger
}

// New writes to a logger of its own name, "policylog".
func New(d decider, log hclog.Logger) *Log { return &Log{decider: d, log: log.Named("policylog")} }

// Isolation is what the key policy says where policies isolate a pod, and none of them
// allows.
const Isolation = "isolation"

// Copied takes the copy of a packet about which a flow has decided.
func (l *Log) Copied(p openflow.PacketIn) {
	seen, ok := read(p.Packet)
	if !ok {
		return
	}
	d, ok := l.decider.DecisionOf(p.Cookie, p.Table, seen.src, seen.dst)
	if !ok {
		return
	}
	verdict, name, rule := "deny", Isolation, "none"
	if d.Allowed {
		verdict = "allow"
	}
	if d.Policy != (policy.Key{}) {
		name, rule = d.Policy.String(), strconv.Itoa(d.Rule)
	}
	l.log.Info("policy decision", "verdict", verdict, "direction", d.Direction.String(), "pod", d.Namespace+"/"+d.Pod, "policy", name, "rule", rule,
		"src", seen.src, "dst", seen.dst, "protocol", seen.protocol, "src_port", seen.srcPort, "port", seen.dstPort)
}

// packet is what the log says of one.
type packet struct {
	src, dst         netip.Addr
	protocol         string
	srcPort, dstPort uint16 // 0 where there is none
}

// protocols by number, as policies name them.
var protocols = map[byte]string{frame.ICMP: "ICMP", frame.TCP: "TCP", frame.UDP: "UDP", frame.SCTP: "SCTP"}

// read reads a frame with IPv4.
func read(copied []byte) (packet, bool) {
	ip, ok := frame.Read(copied)
	if !ok {
		return packet{}, false
	}
	name, known := protocols[ip.Protocol]
	if !known {
		name = strconv.Itoa(int(ip.Protocol))
	}
	p := packet{src: ip.Source, dst: ip.Destination, protocol: name}
	if known && ip.Protocol != frame.ICMP && ip.First && len(ip.Payload) >= 4 {
		p.srcPort, p.dstPort = binary.BigEndian.Uint16(ip.Payload), binary.BigEndian.Uint16(ip.Payload[2:])
	}
	return p, true
}
