package egressrouter

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/annotation"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/destination"
)

const (
	annotationSource      = annotation.Prefix + "EGRESS_SOURCE"
	annotationGateway     = annotation.Prefix + "EGRESS_GATEWAY"
	annotationDestination = annotation.Prefix + "EGRESS_DESTINATION"
	annotationHTTP        = annotation.Prefix + "EGRESS_HTTP_PROXY_DESTINATION"
	annotationDNS         = annotation.Prefix + "EGRESS_DNS_PROXY_DESTINATION"
	annotationMode        = annotation.Prefix + "EGRESS_ROUTER_MODE"
)

// Interface is the name of a router's second interface.
const Interface = "macvlan0"

// Modes of EGRESS_ROUTER_MODE.
const (
	modeInit      = "init"
	modeHTTPProxy = "http-proxy"
	modeDNSProxy  = "dns-proxy"
)

// Spec is what a pod asks for.
type Spec struct {
	// Parent is the node's interface to be on; empty: the one with the node's address.
	Parent string
	// Source is the router's address on the underlay, with the prefix length of the
	// network; /32 when only the gateway is a neighbour. Not valid: the pod gives
	// macvlan0 its address itself, and the rest is empty.
	Source netip.Prefix
	// Gateway is the router's next hop on the underlay.
	Gateway netip.Addr
	// Redirects are by protocol and port, in the order given.
	Redirects []Redirect
	// Fallback gets what no redirect names; not valid: nobody does.
	Fallback netip.Addr
	// LowPorts says that a process in the pod needs no privilege to listen on ports below
	// 1024: a proxy has those of its destinations.
	LowPorts bool
}

// Redirect leads one port of the pod to a destination.
type Redirect struct {
	// Protocol is "tcp", "udp" or "sctp".
	Protocol string
	// Port of the pod, 1 to 65535.
	Port uint16
	// To is the destination, ToPort its port.
	To     netip.Addr
	ToPort uint16
}

// Configured says whether the agent gives macvlan0 its address and routes.
func (s Spec) Configured() bool { return s.Source.IsValid() }

// Parse reads a pod's annotations. wanted is false when the pod is no egress router.
// The error names every problem.
func Parse(annotations map[string]string) (spec Spec, wanted bool, err error) {
	var p problems
	assign, asked := annotations[annotation.Assign]
	wanted = asked && assign != "false"
	others := p.unknown(annotations)
	if !wanted {
		if others {
			p.addf("%s: is required, \"true\" or the name of an interface, for the others to have a meaning", annotation.Assign)
		}
		return Spec{}, false, p.err()
	}
	if assign != "true" {
		spec.Parent = assign
		if len(assign) > 15 || assign == "" || assign == "." || assign == ".." || strings.ContainsAny(assign, "/: \t\n") {
			p.addf("%s: %q is not \"true\", \"false\" or the name of an interface", annotation.Assign, assign)
		}
	}
	if others {
		p.configuration(annotations, &spec)
	}
	if err := p.err(); err != nil {
		return Spec{}, true, err
	}
	return spec, true, nil
}

// problems are what is wrong, in the order found.
type problems []string

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return errors.New(strings.Join(*p, "; "))
}

// unknown reports annotations with the prefix that nobody reads, and says whether
// there are any with it.
func (p *problems) unknown(annotations map[string]string) (others bool) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		switch {
		case !strings.HasPrefix(key, annotation.Prefix):
			continue
		case !slices.Contains([]string{annotationSource, annotationGateway, annotationDestination, annotationHTTP, annotationDNS, annotationMode}, key):
			p.addf("%s: is not known", key)
		}
		others = true
	}
	return others
}

func (p *problems) configuration(annotations map[string]string, spec *Spec) {
	spec.Source = p.source(annotations[annotationSource])
	gateway, err := netip.ParseAddr(annotations[annotationGateway])
	if err != nil || !usable(gateway) {
		p.addf("%s: %q is not an IPv4 address of a host", annotationGateway, annotations[annotationGateway])
	} else if spec.Gateway = gateway; spec.Source.IsValid() {
		switch {
		case gateway == spec.Source.Addr():
			p.addf("%s: %s is the router's own address", annotationGateway, gateway)
		case spec.Source.Bits() < 32 && !spec.Source.Contains(gateway):
			p.addf("%s: %s is not in the network of %s", annotationGateway, gateway, spec.Source)
		}
	}
	mode := cmp.Or(annotations[annotationMode], modeInit)
	for _, d := range []struct{ annotation, mode string }{{annotationDestination, modeInit}, {annotationHTTP, modeHTTPProxy}, {annotationDNS, modeDNSProxy}} {
		if _, given := annotations[d.annotation]; given && mode != d.mode {
			p.addf("%s: belongs to mode %s, not to mode %s", d.annotation, d.mode, mode)
		}
	}
	switch mode {
	case modeInit:
		p.destinations(annotations[annotationDestination], spec)
	case modeHTTPProxy, modeDNSProxy:
		spec.LowPorts = mode == modeDNSProxy
		p.proxied(annotations)
	default:
		p.addf("%s: %q is none of %s, %s, %s", annotationMode, mode, modeInit, modeHTTPProxy, modeDNSProxy)
	}
}

// proxied checks what the proxy in the pod will be told, if the annotations say it: then it
// is refused before the pod is there.
func (p *problems) proxied(annotations map[string]string) {
	if text, given := annotations[annotationHTTP]; given {
		_, found := destination.ParseHTTP(text)
		for _, problem := range found {
			p.addf("%s: %s", annotationHTTP, problem)
		}
	}
	if text, given := annotations[annotationDNS]; given {
		_, found := destination.ParseDNS(text)
		for _, problem := range found {
			p.addf("%s: %s", annotationDNS, problem)
		}
	}
}

// source reads EGRESS_SOURCE: an address, or one with a prefix length.
func (p *problems) source(text string) netip.Prefix {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err == nil && usable(address) {
			return netip.PrefixFrom(address, 32)
		}
	} else if usable(prefix.Addr()) && prefix.Bits() >= 8 {
		return prefix
	}
	p.addf("%s: %q is not an IPv4 address of a host, with or without prefix length (8 to 32)", annotationSource, text)
	return netip.Prefix{}
}

// usable says whether a host can have the address.
func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// maxDestinations bounds the rules of one pod.
const maxDestinations = 1000

// destinations reads EGRESS_DESTINATION: lines "PORT PROTOCOL IP [PORT]" and, as
// the last one, the IP for all that the others do not name. Empty lines and those
// that begin with # do not count.
func (p *problems) destinations(text string, spec *Spec) {
	type portOf struct {
		protocol string
		port     uint16
	}
	taken := map[portOf]bool{}
	number, before := 0, len(*p)
	for line := range strings.SplitSeq(text, "\n") {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		where := fmt.Sprintf("%s: line %d", annotationDestination, number)
		if spec.Fallback.IsValid() {
			p.addf("%s: comes after the address for all the rest, which must be the last", where)
			continue
		}
		if len(fields) == 1 {
			spec.Fallback = p.destination(where, fields[0])
			continue
		}
		redirect, ok := p.redirect(where, fields)
		if key := (portOf{redirect.Protocol, redirect.Port}); ok && taken[key] {
			p.addf("%s: port %d of %s has a destination already", where, redirect.Port, redirect.Protocol)
		} else if ok {
			taken[key] = true
			spec.Redirects = append(spec.Redirects, redirect)
		}
	}
	if len(spec.Redirects) > maxDestinations {
		p.addf("%s: %d destinations, at most %d can be given", annotationDestination, len(spec.Redirects), maxDestinations)
	}
	if len(spec.Redirects) == 0 && !spec.Fallback.IsValid() && len(*p) == before {
		p.addf("%s: at least one destination is needed in mode %s", annotationDestination, modeInit)
	}
}

func (p *problems) redirect(where string, fields []string) (Redirect, bool) {
	before := len(*p)
	if len(fields) > 4 || len(fields) < 3 {
		p.addf("%s: is not PORT PROTOCOL IP, with or without a port of the destination", where)
		return Redirect{}, false
	}
	r := Redirect{Protocol: fields[1], Port: p.port(where, fields[0]), To: p.destination(where, fields[2])}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, r.Protocol) {
		p.addf("%s: %q is none of tcp, udp, sctp", where, r.Protocol)
	}
	r.ToPort = r.Port
	if len(fields) == 4 {
		r.ToPort = p.port(where, fields[3])
	}
	return r, len(*p) == before
}

func (p *problems) destination(where, text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || !usable(a) {
		p.addf("%s: %q is not an IPv4 address of a host", where, text)
		return netip.Addr{}
	}
	return a
}

func (p *problems) port(where, text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		p.addf("%s: %q is not a port: 1 to 65535", where, text)
		return 0
	}
	return uint16(n)
}
