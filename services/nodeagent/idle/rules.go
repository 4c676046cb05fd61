package idle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

const (
	chainIdle = "DAMASK-IDLE"      // which packets wait; further chains begin with its name
	chainHold = "DAMASK-IDLE-HOLD" // how they wait

	jumpRule = `-m comment --comment "packets to idled services wait" -j ` + chainIdle
	loopback = "127.0.0.0/8"
)

// ruleset is what the chains should hold, by their names: rules without "-A CHAIN",
// spelled as iptables-save prints them. Both backends print alike. Without rules there
// should be no chains.
type ruleset map[string][]string

// table answers the rules as chains.read does once they are written.
func (r ruleset) table() map[string][]string {
	has := map[string][]string(maps.Clone(r))
	if len(r) > 0 {
		for _, entrance := range entrances {
			has[entrance] = []string{jumpRule}
		}
	}
	return has
}

// compile answers the rules for services.
func compile(want Services, nodePortNetworks []netip.Prefix, queue uint16) ruleset {
	var leaves []leaf
	local := localMatches(nodePortNetworks)
	for name, frontends := range want {
		for _, f := range frontends {
			leaves = append(leaves, f.leaf(name, local))
		}
	}
	rules := ruleset{}
	if len(leaves) == 0 {
		return rules
	}
	grow(rules, chainIdle, leaves, 0)
	rules[chainHold] = []string{
		// Only the beginning of a connection can wait. The rest belongs to one that
		// this service cannot have any more.
		"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
		// Without --queue-bypass: while nobody reads the queue, packets are dropped.
		fmt.Sprintf("-j NFQUEUE --queue-num %d", queue),
	}
	return rules
}

// localMatches answers what rules say of the addresses that have node ports.
func localMatches(nodePortNetworks []netip.Prefix) []string {
	if len(nodePortNetworks) == 0 {
		return []string{"! -d " + loopback}
	}
	var all []string
	for _, n := range nodePortNetworks {
		if n.Bits() == 0 {
			return []string{"! -d " + loopback}
		}
		all = append(all, "-d "+n.Masked().String())
	}
	return all
}

// checked answers the services that have no problem, and an error that names all
// problems of the others.
func checked(services Services) (Services, error) {
	good := make(Services, len(services))
	var problems []error
	owner := map[Frontend]serviceview.Name{}
	for _, name := range slices.SortedFunc(maps.Keys(services), compareNames) {
		said := check(name, services[name])
		for _, f := range services[name] {
			if other, taken := owner[f]; taken && other != name {
				said = append(said, fmt.Sprintf("%s is that of %s/%s too", f, other.Namespace, other.Service))
			}
		}
		if len(said) > 0 {
			problems = append(problems, fmt.Errorf("idled service %s/%s: %s", name.Namespace, name.Service, strings.Join(said, "; ")))
			continue
		}
		for _, f := range services[name] {
			owner[f] = name
		}
		good[name] = services[name]
	}
	return good, errors.Join(problems...)
}

func compareNames(a, b serviceview.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
}

// check says what is wrong with a service by itself.
func check(name serviceview.Name, frontends []Frontend) (problems []string) {
	for what, text := range map[string]string{"namespace": name.Namespace, "name": name.Service} {
		if text == "" || len(text) > 63 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			problems = append(problems, fmt.Sprintf("%s %q is no DNS label", what, text))
		}
	}
	for _, f := range frontends {
		switch {
		case f.Address.IsValid() && (!f.Address.Is4() || f.Address.IsUnspecified() || f.Address.IsLoopback() || f.Address.IsMulticast()):
			problems = append(problems, fmt.Sprintf("%s: the address cannot be a service's", f))
		case !slices.Contains([]proxy.Protocol{proxy.TCP, proxy.UDP, proxy.SCTP}, f.Protocol):
			problems = append(problems, fmt.Sprintf("%s: the protocol is not TCP, UDP or SCTP", f))
		case f.Port == 0:
			problems = append(problems, fmt.Sprintf("%s: the port is missing", f))
		}
	}
	slices.Sort(problems)
	return problems
}

// String is how errors name a frontend.
func (f Frontend) String() string {
	if !f.Address.IsValid() {
		return fmt.Sprintf("node port %d/%s", f.Port, f.Protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.Address, f.Port), f.Protocol)
}
