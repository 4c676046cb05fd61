package idle

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/serviceview"
)

// fan is how many rules a chain may have before it branches. Every packet of the node
// passes the first chain, and every packet of any service some further ones, so their
// length must not be the number of idled services. It is also how many branches a
// chain has at most, but for the first, and for the ports of one address.
const fan = 16

// leaf is the rule of one frontend, with its way through the tree of chains.
type leaf struct {
	way []branch
	// first are its rules in the first chain, which must say all; deeper is its rule
	// in a chain where the way has been checked.
	first  []string
	deeper string
}

// branch is a chain, and what leads to it: any of the matches.
type branch struct {
	chain   string
	matches []string
}

// leaf answers the rule of a frontend. local matches the node's addresses.
func (f Frontend) leaf(service serviceview.Name, local []string) leaf {
	protocol := strings.ToLower(string(f.Protocol))
	port := fmt.Sprintf("-p %s -m %s --dport %d", protocol, protocol, f.Port)
	hold := fmt.Sprintf(" -m comment --comment \"%s/%s\" -j %s", service.Namespace, service.Service, chainHold)
	if f.Address.IsValid() {
		rule := fmt.Sprintf("-d %s/32 %s%s", f.Address, port, hold)
		return leaf{way: addressWay(f.Address), first: []string{rule}, deeper: rule}
	}
	const isLocal = " -m addrtype --dst-type LOCAL"
	l := leaf{way: portWay(protocol, f.Port), deeper: port + hold}
	entry := l.way[0].matches[0]
	l.way[0].matches = nil
	for _, match := range local {
		l.first = append(l.first, match+" "+port+isLocal+hold)
		l.way[0].matches = append(l.way[0].matches, match+" "+entry+isLocal)
	}
	return l
}

// addressWay branches by four bits at a time. The first half of an address is one
// step: service networks are seldom wider.
func addressWay(a netip.Addr) []branch {
	var way []branch
	for bits := 16; bits <= 28; bits += 4 {
		p := netip.PrefixFrom(a, bits).Masked()
		number := binary.BigEndian.Uint32(p.Addr().AsSlice())
		way = append(way, branch{fmt.Sprintf("%s-%08X-%d", chainIdle, number, bits), []string{"-d " + p.String()}})
	}
	return way
}

// portWay branches by four bits at a time too.
func portWay(protocol string, port uint16) []branch {
	var way []branch
	for bits := 12; bits >= 4; bits -= 4 {
		low := port >> bits << bits
		high := low + 1<<bits - 1
		way = append(way, branch{
			fmt.Sprintf("%s-%s-%d-%d", chainIdle, strings.ToUpper(protocol), low, high),
			[]string{fmt.Sprintf("-p %s -m %s --dport %d:%d", protocol, protocol, low, high)},
		})
	}
	return way
}

// grow fills a chain with the rules of leaves that have come so many steps, and adds
// further chains where it would get too long.
func grow(rules ruleset, chain string, leaves []leaf, steps int) {
	var own []string
	for _, l := range leaves {
		own = append(own, l.rules(steps)...)
	}
	if len(own) > fan {
		own = nil
		branches := map[string][]leaf{}
		for _, l := range leaves {
			if steps >= len(l.way) {
				own = append(own, l.rules(steps)...)
				continue
			}
			next := l.way[steps].chain
			branches[next] = append(branches[next], l)
		}
		for _, next := range slices.Sorted(maps.Keys(branches)) {
			within := branches[next]
			if len(within) == 1 {
				own = append(own, within[0].rules(steps)...)
				continue
			}
			for _, match := range within[0].way[steps].matches {
				own = append(own, match+" -j "+next)
			}
			grow(rules, next, within, steps+1)
		}
	}
	slices.Sort(own)
	rules[chain] = slices.Compact(own)
}

func (l leaf) rules(steps int) []string {
	if steps == 0 {
		return l.first
	}
	return []string{l.deeper}
}
