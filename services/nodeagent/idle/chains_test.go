package idle

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// eachBackend runs a test with both kinds of iptables, on a node without a network.
func eachBackend(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program, program+"-save", program+"-restore")
			r := &rig{node: netnstest.New(t, "node"), program: program}
			r.start(t)
			test(t, r)
		})
	}
}

// do runs iptables on table raw.
func (r *rig) do(t testing.TB, words ...string) {
	t.Helper()
	r.node.Run(t, r.program, append([]string{"-t", "raw"}, words...)...)
}

// raw answers the rules of table raw.
func (r *rig) raw(t testing.TB) string {
	t.Helper()
	var rules []string
	for line := range strings.Lines(r.node.Run(t, r.program, "-t", "raw", "-S")) {
		if !strings.HasPrefix(line, "-P") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	return strings.Join(rules, "\n")
}

func TestTheRulesOfIdledServices(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		services := Services{
			named("web"): {{addr(clusterIP), proxy.TCP, 80}, {Protocol: proxy.TCP, Port: nodePort}},
			named("dns"): {{addr("172.30.0.11"), proxy.UDP, 53}, {addr("172.30.0.11"), proxy.SCTP, 5300}},
		}
		if err := r.sync(t, services); err != nil {
			t.Fatal(err)
		}
		const want = `-N DAMASK-IDLE
-N DAMASK-IDLE-HOLD
-A PREROUTING -m comment --comment "packets to idled services wait" -j DAMASK-IDLE
-A OUTPUT -m comment --comment "packets to idled services wait" -j DAMASK-IDLE
-A DAMASK-IDLE ! -d 127.0.0.0/8 -p tcp -m tcp --dport 30080 -m addrtype --dst-type LOCAL -m comment --comment "shop/web" -j DAMASK-IDLE-HOLD
-A DAMASK-IDLE -d 172.30.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web" -j DAMASK-IDLE-HOLD
-A DAMASK-IDLE -d 172.30.0.11/32 -p sctp -m sctp --dport 5300 -m comment --comment "shop/dns" -j DAMASK-IDLE-HOLD
-A DAMASK-IDLE -d 172.30.0.11/32 -p udp -m udp --dport 53 -m comment --comment "shop/dns" -j DAMASK-IDLE-HOLD
-A DAMASK-IDLE-HOLD -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-A DAMASK-IDLE-HOLD -j NFQUEUE --queue-num 55882`
		if got := r.raw(t); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if batch := r.batch(t, services); batch != "" {
			t.Errorf("what is right already would be changed:\n%s", batch)
		}
		r.gate.networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")}
		if err := r.sync(t, services); err != nil {
			t.Fatal(err)
		}
		for _, rule := range []string{"-d 192.0.2.0/24 -p tcp -m tcp --dport 30080 -m addrtype --dst-type LOCAL", "-d 198.51.100.0/24 -p tcp -m tcp --dport 30080"} {
			if got := r.raw(t); !strings.Contains(got, rule) || strings.Contains(got, "127.0.0.0/8") {
				t.Errorf("node ports in some networks only: got\n%s", got)
			}
		}
		if batch := r.batch(t, services); batch != "" {
			t.Errorf("what is right already would be changed:\n%s", batch)
		}
		if err := r.sync(t, Services{}); err != nil {
			t.Fatal(err)
		}
		if got := r.raw(t); got != "" {
			t.Errorf("nothing is idled, and there are rules:\n%s", got)
		}
	})
}

// batch answers what a Sync would send.
func (r *rig) batch(t testing.TB, services Services) string {
	t.Helper()
	var has map[string][]string
	var err error
	r.node.Do(t, func() { has, err = r.gate.chains.read(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	return difference(has, compile(services, r.gate.networks, r.gate.number))
}

func TestDamageIsRepairedAndOthersRulesStay(t *testing.T) {
	foreign := "-A PREROUTING -s 203.0.113.0/24 -j DROP"
	services := Services{named("web"): {{addr(clusterIP), proxy.TCP, 80}}}
	other := []Frontend{{addr("172.30.0.12"), proxy.TCP, 80}}
	for _, c := range []struct {
		name   string
		damage [][]string
	}{
		{"a rule is gone", [][]string{{"-D", chainIdle, "1"}}},
		{"a jump is gone", [][]string{{"-D", "OUTPUT", "1"}}},
		{"all is gone", [][]string{{"-D", "OUTPUT", "1"}, {"-D", "PREROUTING", "-j", chainIdle, "-m", "comment", "--comment", "packets to idled services wait"},
			{"-F", chainIdle}, {"-X", chainIdle}, {"-F", chainHold}, {"-X", chainHold}}},
		{"a rule is twice", [][]string{{"-A", chainIdle, "-d", clusterIP, "-p", "tcp", "--dport", "80", "-m", "comment", "--comment", "shop/web", "-j", chainHold}}},
		{"a rule too many", [][]string{{"-A", chainIdle, "-d", "172.30.9.9", "-j", chainHold}}},
		{"a jump too many", [][]string{{"-I", "PREROUTING", "-s", "10.0.0.0/8", "-j", chainIdle}}},
		{"packets are not held", [][]string{{"-F", chainHold}}},
		{"held in another queue", [][]string{{"-R", chainHold, "2", "-j", "NFQUEUE", "--queue-num", "1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, r *rig) {
				r.do(t, strings.Fields(foreign)...)
				if err := r.sync(t, services); err != nil {
					t.Fatal(err)
				}
				right := r.raw(t)
				for _, words := range c.damage {
					r.do(t, words...)
				}
				if r.raw(t) == right {
					t.Fatal("the damage does none")
				}
				if err := r.sync(t, services); err != nil {
					t.Fatal(err)
				}
				if got := r.raw(t); !sameRules(got, right) {
					t.Errorf("repaired to\n%s\nwas\n%s", got, right)
				}
				// A change from memory must not stumble over damage either.
				for _, words := range c.damage {
					r.do(t, words...)
				}
				r.hold(t, named("other"), other)
				r.release(t, named("web"))
				r.release(t, named("other"))
				if err := r.sync(t, nil); err != nil {
					t.Fatal(err)
				}
				if got := r.raw(t); got != foreign {
					t.Errorf("in the end there is\n%s\nwant\n%s", got, foreign)
				}
			})
		})
	}
}

// sameRules compares without the order of rules of different chains.
func sameRules(a, b string) bool {
	count := map[string]int{}
	for _, line := range strings.Split(a, "\n") {
		count[line]++
	}
	for _, line := range strings.Split(b, "\n") {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestAnyHistoryEndsWithTheRulesOfItsState: whatever was done, rules are those that a
// fresh node has, and when nothing is idled, those from before.
func TestAnyHistoryEndsWithTheRulesOfItsState(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		outer := t
		r.do(t, "-A", "PREROUTING", "-s", "203.0.113.0/24", "-j", "DROP")
		before := r.raw(t)
		draw := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) int { return rapid.IntRange(1, 3).Draw(t, "port") }), 0, 3)
		frontends := func(i int, ports []int) (all []Frontend) {
			for _, port := range ports {
				all = append(all, Frontend{addr(fmt.Sprintf("172.30.0.%d", i+1)), proxy.TCP, uint16(port)}, Frontend{Protocol: proxy.UDP, Port: uint16(30000 + 10*i + port)})
			}
			return all
		}
		rapid.Check(t, func(t *rapid.T) {
			state := Services{}
			for range rapid.IntRange(1, 6).Draw(t, "steps") {
				i := rapid.IntRange(0, 3).Draw(t, "service")
				switch rapid.IntRange(0, 3).Draw(t, "step") {
				case 0:
					state = Services{}
					for j := range rapid.IntRange(0, 3).Draw(t, "services") {
						state[named(fmt.Sprint(j))] = frontends(j, draw.Draw(t, "ports"))
					}
					if err := r.sync(outer, state); err != nil {
						t.Fatal(err)
					}
				case 1:
					delete(state, named(fmt.Sprint(i)))
					r.release(outer, named(fmt.Sprint(i)))
				case 2:
					state[named(fmt.Sprint(i))] = frontends(i, draw.Draw(t, "ports"))
					r.hold(outer, named(fmt.Sprint(i)), state[named(fmt.Sprint(i))])
				case 3:
					r.gate.Close() // and another agent takes over
					r.start(outer)
					if err := r.sync(outer, state); err != nil {
						t.Fatal(err)
					}
				}
				if batch := r.batch(outer, state); batch != "" {
					t.Fatalf("state %v: rules differ by\n%s", state, batch)
				}
			}
			if err := r.sync(outer, nil); err != nil {
				t.Fatal(err)
			}
			if got := r.raw(outer); got != before {
				t.Fatalf("in the end there is\n%s\nbefore\n%s", got, before)
			}
		})
	})
}

func TestABadServiceIsLeftOutAndDisturbsNoOther(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		good := Frontend{addr(clusterIP), proxy.TCP, 80}
		err := r.sync(t, Services{
			named("a"):       {good},
			named("b"):       {good},
			named(`"; x`):    {{addr("172.30.0.12"), proxy.TCP, 80}},
			named("address"): {{addr("127.0.0.1"), proxy.TCP, 80}, {addr("fd00::1"), proxy.TCP, 80}},
			named("port"):    {{addr("172.30.0.13"), proxy.TCP, 0}, {addr("172.30.0.13"), "ICMP", 80}},
		})
		for _, part := range []string{
			"shop/b: 172.30.0.10:80/TCP is that of shop/a too", `name "\"; x" is no DNS label`, "127.0.0.1:80/TCP: the address", "[fd00::1]:80/TCP: the address",
			"172.30.0.13:0/TCP: the port is missing", "172.30.0.13:80/ICMP: the protocol",
		} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not say %q:\n%v", part, err)
			}
		}
		if got := strings.Count(r.raw(t), "-A DAMASK-IDLE "); got != 1 {
			t.Errorf("%d rules, want that of shop/a alone:\n%s", got, r.raw(t))
		}
		r.node.Do(t, func() { err = r.gate.Hold(t.Context(), named("b"), []Frontend{good}) })
		if err == nil || strings.Contains(r.raw(t), "shop/b") {
			t.Errorf("hold: %v", err)
		}
	})
}

func TestAQueueThatSomebodyElseHasIsTriedAgain(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		services := Services{named("web"): {{addr(clusterIP), proxy.TCP, 80}}}
		if err := r.sync(t, services); err != nil {
			t.Fatal(err)
		}
		first := r.gate
		r.start(t)
		err := r.sync(t, services)
		if err == nil || !strings.Contains(err.Error(), "netfilter queue 55882, which another process may have") {
			t.Fatalf("got error %v", err)
		}
		if r.batch(t, services) != "" {
			t.Errorf("without the queue the rules are\n%s", r.raw(t))
		}
		first.Close()
		if err := r.sync(t, services); err != nil {
			t.Errorf("once it is free: %v", err)
		}
		var closed error
		r.node.Do(t, func() { closed = first.Sync(t.Context(), nil) })
		if closed == nil || r.batch(t, services) != "" {
			t.Errorf("a closed gate: %v, rules\n%s", closed, r.raw(t))
		}
	})
}

func TestANodeWithoutIptablesGetsAClearError(t *testing.T) {
	_, err := New(Config{Program: "no-such-iptables"}, hclog.NewNullLogger())
	if err == nil || !strings.Contains(err.Error(), "this node has no no-such-iptables-save command") {
		t.Errorf("got error %v", err)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add("*raw\n:PREROUTING ACCEPT [0:0]\n:DAMASK-IDLE - [0:0]\n-A PREROUTING -j DAMASK-IDLE\nCOMMIT\n")
	f.Add("-A X -j DAMASK-IDLE\n:\n-A \n# c\n")
	want := compile(Services{named("web"): {{addr(clusterIP), proxy.TCP, 80}}}, nil, 1)
	f.Fuzz(func(t *testing.T, text string) {
		batch := difference(parseTable(text), want)
		if batch != "" && (!strings.HasPrefix(batch, "*raw\n") || !strings.HasSuffix(batch, "\nCOMMIT\n")) {
			t.Errorf("%q gives %q", text, batch)
		}
	})
}
