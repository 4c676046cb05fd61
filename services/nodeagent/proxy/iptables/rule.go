package iptables

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// A rule is written exactly as iptables-save prints it, without "-A CHAIN". So a rule
// that is there is compared as text, and the same text is what is sent. Both backends
// print alike: addresses first, then device and protocol, then matches as given.

// The two tables we write.
const (
	tableNAT    = "nat"
	tableFilter = "filter"
)

// loopback never has node ports: the kernel would not route the translated packet.
const loopback = "127.0.0.0/8"

// probabilityUnit is the kernel's resolution of a probability.
const probabilityUnit = 1 << 31

// reject is the target that tells a client at once.
const reject = "REJECT --reject-with icmp-port-unreachable"

// rule joins the parts that are not empty, and the target.
func rule(target string, parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p != "" {
			b.WriteString(p)
			b.WriteByte(' ')
		}
	}
	return b.String() + "-j " + target
}

// note is a comment. iptables-save quotes texts with a blank, a slash or a colon, and
// all of ours have one. proxy.Check keeps quotes out of names.
func note(format string, args ...any) string {
	return fmt.Sprintf(`-m comment --comment "%s"`, fmt.Sprintf(format, args...))
}

func source(p netip.Prefix) string    { return "-s " + p.String() }
func destination(a netip.Addr) string { return "-d " + a.String() + "/32" }

// protocol is the match of a protocol alone, dport the one of a port in addition.
func protocol(p proxy.Protocol) string { return "-p " + strings.ToLower(string(p)) }
func dport(p proxy.Protocol, port uint16) string {
	return fmt.Sprintf("-m %s --dport %d", strings.ToLower(string(p)), port)
}

// probability picks one of n, as the kernel rounds it.
func probability(n int) string {
	units := math.Round(probabilityUnit / float64(n))
	return fmt.Sprintf("-m statistic --mode random --probability %.11f", units/probabilityUnit)
}

// recall matches clients that a backend's list holds, remember puts them into it.
func recall(backend string, within time.Duration) string {
	return fmt.Sprintf("-m recent --rcheck --seconds %d --reap --name %s --mask 255.255.255.255 --rsource", int(within.Seconds()), backend)
}

func remember(backend string) string {
	return fmt.Sprintf("-m recent --set --name %s --mask 255.255.255.255 --rsource", backend)
}
