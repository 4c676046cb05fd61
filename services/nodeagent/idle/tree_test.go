package idle

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// ourNode is an address of the node in the walks below.
var ourNode = addr("192.0.2.1")

// walk answers whether a packet waits, and how many rules it meets until then, or
// until all are passed.
func walk(t *rapid.T, rules ruleset, chain string, f Frontend) (waits bool, met int) {
	for _, rule := range rules[chain] {
		met++
		target, ok := match(t, strings.Fields(rule), f)
		switch {
		case !ok:
		case target == chainHold:
			return true, met
		default:
			if _, there := rules[target]; !there {
				t.Fatalf("chain %s leads to %s, which is not there", chain, target)
			}
			waits, deeper := walk(t, rules, target, f)
			if met += deeper; waits {
				return true, met
			}
		}
	}
	return false, met
}

// match answers the target of a rule, and whether it takes a packet.
func match(t *rapid.T, words []string, f Frontend) (target string, ok bool) {
	ok = true
	not := false
	for i := 0; i < len(words); i++ {
		if not = words[i] == "!"; not {
			i++
		}
		option, value := words[i], words[i+1]
		i++
		switch option {
		case "-d":
			ok = ok && netip.MustParsePrefix(value).Contains(f.Address) != not
		case "-p":
			ok = ok && value == strings.ToLower(string(f.Protocol))
		case "--dport":
			low, high, several := strings.Cut(value, ":")
			if !several {
				high = low
			}
			from, errFrom := strconv.Atoi(low)
			to, errTo := strconv.Atoi(high)
			if errFrom != nil || errTo != nil {
				t.Fatalf("ports %q", value)
			}
			ok = ok && from <= int(f.Port) && int(f.Port) <= to
		case "--dst-type":
			ok = ok && f.Address == ourNode
		case "-m", "--comment":
		case "-j":
			target = value
		default:
			t.Fatalf("option %q", option)
		}
	}
	return target, ok
}

// TestTheTreeTakesWhatIsHeldAndNothingElse walks packets through the chains of any
// services, few and many, near to each other and far.
func TestTheTreeTakesWhatIsHeldAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spread := rapid.SampledFrom([]int{4, 300, 1 << 16, 1 << 24}).Draw(t, "spread")
		frontend := rapid.Custom(func(t *rapid.T) Frontend {
			f := Frontend{
				Protocol: rapid.SampledFrom([]proxy.Protocol{proxy.TCP, proxy.UDP, proxy.SCTP}).Draw(t, "protocol"),
				Port:     uint16(rapid.IntRange(1, 3).Draw(t, "port")),
			}
			if rapid.Bool().Draw(t, "node port") {
				f.Port = uint16(rapid.IntRange(1, min(65535, spread)).Draw(t, "node port number"))
				return f
			}
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 172<<24+uint32(rapid.IntRange(0, spread-1).Draw(t, "address")))
			f.Address = netip.AddrFrom4(b)
			return f
		})
		held := map[Frontend]bool{}
		services := Services{}
		for i, f := range rapid.SliceOfN(frontend, 0, 200).Draw(t, "held") {
			held[f] = true
			services[named(fmt.Sprint(i))] = []Frontend{f}
		}
		rules := compile(services, nil, 1)
		probes := append(rapid.SliceOfN(frontend, 0, 50).Draw(t, "others"), slices.Collect(func(yield func(Frontend) bool) {
			for f := range held {
				if !yield(f) {
					return
				}
			}
		})...)
		for _, f := range probes {
			packet := f
			if !f.Address.IsValid() {
				packet.Address = ourNode
			}
			if waits, _ := walk(t, rules, chainIdle, packet); waits != held[f] {
				t.Fatalf("%v waits: %v, held: %v; rules %v", f, waits, held[f], rules)
			}
		}
		for chain, list := range rules {
			if len(chain) > 28 { // what the kernel takes
				t.Fatalf("chain %q has a long name", chain)
			}
			if len(list) == 0 {
				t.Fatalf("chain %s is empty", chain)
			}
		}
		if waits, _ := walk(t, rules, chainIdle, Frontend{addr("127.0.0.1"), proxy.TCP, 1}); waits {
			t.Fatal("a loopback address has node ports")
		}
	})
}

func TestOthersPacketsMeetFewRulesHoweverManyServicesAreIdled(t *testing.T) {
	rules := compile(many(1000), nil, 1)
	rapid.Check(t, func(t *rapid.T) {
		for what, c := range map[string]struct {
			to   Frontend
			most int
		}{
			"a pod":                            {Frontend{addr("10.130.0.9"), proxy.TCP, 80}, 2},
			"the tunnel":                       {Frontend{ourNode, proxy.UDP, 4789}, 2},
			"a service that is not idled":      {Frontend{addr(fmt.Sprintf("172.31.%d.%d", rapid.IntRange(0, 255).Draw(t, "a"), rapid.IntRange(0, 255).Draw(t, "b"))), proxy.TCP, 81}, 5 * fan},
			"a node port that is not idled":    {Frontend{ourNode, proxy.TCP, uint16(rapid.IntRange(32000, 32767).Draw(t, "port"))}, 5 * fan},
			"a service that is idled":          {Frontend{addr("172.31.2.7"), proxy.TCP, 80}, 5 * fan},
			"another port of the node's range": {Frontend{ourNode, proxy.UDP, 31001}, 2},
		} {
			if _, met := walk(t, rules, chainIdle, c.to); met > c.most {
				t.Errorf("a packet to %s meets %d rules, want %d at most", what, met, c.most)
			}
		}
	})
}

// TestManyServicesAreHeldByBothBackends lets the kernel walk.
func TestManyServicesAreHeldByBothBackends(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		services := many(300)
		services[named("low")] = []Frontend{{Protocol: proxy.TCP, Port: 1}, {Protocol: proxy.TCP, Port: 65535}, {Protocol: proxy.UDP, Port: 100}}
		if err := r.sync(t, services); err != nil {
			t.Fatal(err)
		}
		if batch := r.batch(t, services); batch != "" {
			t.Errorf("what is right already would be changed:\n%s", batch)
		}
		for i, to := range []string{"172.31.0.1:80", "172.31.1.50:80", "172.31.0.250:80", nodeAddress + ":31000", nodeAddress + ":31299", nodeAddress + ":1", nodeAddress + ":65535"} {
			connect(t, r.client, to)
			r.until(t, "a connection to "+to+" waits", func(s Stats) bool { return s.Waiting == i+1 })
		}
		if a := <-connect(t, r.client, nodeAddress+":31300"); a.err == nil || !strings.Contains(a.err.Error(), "refused") {
			t.Errorf("a port beside: %v", a.err)
		}
		if err := r.sync(t, nil); err != nil {
			t.Fatal(err)
		}
		if got := r.raw(t); got != "" {
			t.Errorf("nothing is idled, and there are rules:\n%s", got)
		}
	})
}
