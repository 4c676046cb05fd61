package policyspec

import (
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
)

// adminPort reads one item of ports into the rule. A named port has no protocol:
// it is what the name means for any.
func (r *reader) adminPort(n node, rule *Rule) {
	f := r.fields(n, "portNumber", "portRange", "namedPort")
	if len(f) != 1 {
		r.refuse(n.path, "must have one of portNumber, portRange and namedPort")
		return
	}
	if number, ok := f["portNumber"]; ok {
		q := r.fields(number, "protocol", "port")
		if r.required(q["port"], number.path+".port") {
			port := r.port(q["port"])
			rule.Ports = append(rule.Ports, policy.PortRange{Protocol: r.protocol(q["protocol"]), First: port, Last: port})
		}
	}
	if span, ok := f["portRange"]; ok {
		q := r.fields(span, "protocol", "start", "end")
		first, last := r.span(span.path, q["start"], q["end"])
		rule.Ports = append(rule.Ports, policy.PortRange{Protocol: r.protocol(q["protocol"]), First: first, Last: last})
	}
	r.anyProtocol(f["namedPort"], rule)
}

// clusterProtocol reads one item of protocols into the rule.
func (r *reader) clusterProtocol(n node, rule *Rule) {
	protocols := map[string]policy.Protocol{"tcp": policy.TCP, "udp": policy.UDP, "sctp": policy.SCTP}
	f := r.fields(n, "tcp", "udp", "sctp", "destinationNamedPort")
	if len(f) != 1 {
		r.refuse(n.path, "must have one of tcp, udp, sctp and destinationNamedPort")
		return
	}
	for name, protocol := range protocols {
		if one, ok := f[name]; ok {
			port := r.fields(one, "destinationPort")["destinationPort"]
			if r.required(port, one.path+".destinationPort") {
				rule.Ports = append(rule.Ports, r.numberOrRange(port, protocol))
			}
		}
	}
	r.anyProtocol(f["destinationNamedPort"], rule)
}

func (r *reader) numberOrRange(n node, protocol policy.Protocol) policy.PortRange {
	f := r.fields(n, "number", "range")
	number, span := f["number"], f["range"]
	switch {
	case number.absent() == span.absent():
		r.refuse(n.path, "must have one of number and range")
		return policy.PortRange{}
	case span.absent():
		port := r.port(number)
		return policy.PortRange{Protocol: protocol, First: port, Last: port}
	}
	q := r.fields(span, "start", "end")
	first, last := r.span(span.path, q["start"], q["end"])
	return policy.PortRange{Protocol: protocol, First: first, Last: last}
}

// span reads a range, of which these APIs want more than one port.
func (r *reader) span(path string, start, end node) (first, last uint16) {
	if !r.required(start, path+".start") || !r.required(end, path+".end") {
		return 1, 1
	}
	first, last = r.port(start), r.port(end)
	if last <= first {
		r.refuse(end.path, "%d must be higher than start %d", last, first)
	}
	return first, last
}

// anyProtocol reads a named port, which has no protocol here: it is what the
// name means for any.
func (r *reader) anyProtocol(n node, rule *Rule) {
	if n.absent() {
		return
	}
	text := r.text(n)
	r.check(n.path, kubesyntax.PortName(text))
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		rule.Named = append(rule.Named, policy.PortName{Protocol: protocol, Name: text})
	}
}
