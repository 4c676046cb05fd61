package servicepath

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/policy"
)

// rounds is how many clusters of policies are asked; DAMASK_POLICY_ROUNDS says another
// number.
func rounds(t *testing.T) int {
	t.Helper()
	text, set := os.LookupEnv("DAMASK_POLICY_ROUNDS")
	if !set {
		return 12
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drawn is a source of policies.
type drawn struct {
	*rand.Rand
	w *world
}

func pick[T any](d drawn, from ...T) T { return from[d.IntN(len(from))] }

// rule is any rule that a tier can have.
func (d drawn) rule(tier policy.Tier) policy.Rule {
	r := policy.Rule{Direction: pick(d, policy.Ingress, policy.Egress), Action: policy.Allow}
	if tier != policy.Namespace {
		r.Action = pick(d, policy.Allow, policy.Deny, policy.Pass)
	}
	switch d.IntN(4) {
	case 0:
		r.AnyPeer = true
	case 1:
		b := policy.Block{CIDR: netip.MustParsePrefix(pick(d, "10.128.0.0/14", "10.129.0.0/23", "10.128.0.4/30"))}
		if d.IntN(2) == 0 {
			b.Except = []netip.Prefix{netip.PrefixFrom(pick(d, d.w.pods...).ip, 32)}
		}
		r.Peers = []policy.Peer{{Block: b}}
	default:
		r.Peers = []policy.Peer{{Group: pick[policy.GroupID](d, "g1", "g2", "g3")}}
	}
	switch d.IntN(4) {
	case 0:
		r.AnyPort = true
	case 1:
		if r.Direction == policy.Ingress {
			r.Named = []policy.PortName{{Protocol: pick(d, policy.TCP, policy.UDP), Name: "web"}}
			break
		}
		fallthrough
	default:
		first := pick[uint16](d, backendPort-10, backendPort, echoPort)
		r.Ports = []policy.PortRange{{Protocol: pick(d, policy.TCP, policy.UDP), First: first, Last: first + pick[uint16](d, 0, 20)}}
	}
	return r
}

func (d drawn) policy(i int) policy.Policy {
	p := policy.Policy{Tier: pick(d, policy.Namespace, policy.Namespace, policy.Admin, policy.Baseline), Priority: d.Int32N(3)}
	p.Key = policy.Key{Kind: fmt.Sprint("Tier", p.Tier), Name: fmt.Sprint("p", i)}
	if p.Tier == policy.Namespace {
		p.Key.Namespace = "shop"
		p.Ingress = d.IntN(2) == 0
		p.Egress = !p.Ingress || d.IntN(2) == 0
	}
	for range 1 + d.IntN(3) {
		r := d.rule(p.Tier)
		if p.Tier != policy.Namespace || p.Isolates(r.Direction) {
			p.Rules = append(p.Rules, r)
		}
	}
	return p
}

// some are any of the pods.
func (d drawn) some() []*pod {
	var all []*pod
	for _, p := range d.w.pods {
		if d.IntN(2) == 0 {
			all = append(all, p)
		}
	}
	return all
}

// change makes some of the world another one.
func (d drawn) change() {
	for i := range 1 + d.IntN(3) {
		switch d.IntN(3) {
		case 0:
			d.w.groups[pick[policy.GroupID](d, "g1", "g2", "g3")] = d.some()
		case 1:
			for key := range d.w.policies {
				d.w.remove(key)
				break
			}
		default:
			d.w.put(d.policy(d.IntN(6)+i), d.some()...)
		}
	}
}

// question is a connection that may be or not.
type question struct {
	from, to *pod
	protocol policy.Protocol
	port     uint16
	want     bool
	got      bool
}

// ask tries the connection: as long as it takes if it should be, a moment if not.
func (q *question) ask(t *testing.T) {
	limit, network := silence, "tcp4"
	if q.want {
		limit = 2 * answerLimit
	}
	if q.protocol == policy.UDP {
		network = "udp4"
	}
	var conn net.Conn
	var err error
	for end := time.Now().Add(limit); !q.got && time.Now().Before(end); {
		q.from.ns.Do(t, func() { conn, err = net.DialTimeout(network, q.to.at(q.port).String(), limit) })
		if err != nil {
			continue
		}
		_, err = conn.Write([]byte("hello"))
		if network == "udp4" && err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(min(limit, time.Second)))
			_, err = conn.Read(make([]byte, 100))
		}
		_ = conn.Close()
		q.got = err == nil
	}
}

// settle asks again what is let pass and should not be: the switch's caches may have the
// flows of a moment before.
func (d drawn) settle(t *testing.T, all []*question) {
	for end := time.Now().Add(cutLimit); time.Now().Before(end); {
		wrong := 0
		for _, q := range all {
			if q.got && !q.want {
				wrong++
				q.got = false
				q.ask(t)
			}
		}
		if wrong == 0 {
			return
		}
	}
}

// questions are all pairs of pods with two ports and both protocols.
func (w *world) questions() []*question {
	var all []*question
	for _, from := range w.pods {
		for _, to := range w.pods {
			for _, port := range []uint16{backendPort, echoPort} {
				for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
					if from != to {
						all = append(all, &question{from: from, to: to, protocol: protocol, port: port, want: w.allows(from, to, protocol, port)})
					}
				}
			}
		}
	}
	return all
}

func TestConnectionsAreAsPoliciesSayWhileTheyChange(t *testing.T) {
	nodes := newClusterIn(t, "nftables", networkPolicy)
	var pods []*pod
	for i := range 3 {
		for _, n := range nodes {
			p := n.addPod(t, "shop", fmt.Sprint("p", i, n.name), byte(5+i))
			p.serve(t)
			p.echo(t)
			pods = append(pods, p)
		}
	}
	w := newWorld(nodes, pods...)
	for _, id := range []policy.GroupID{"g1", "g2", "g3"} {
		w.groups[id] = nil
	}
	for i, p := range pods {
		if i%2 == 0 {
			w.ports[p] = []policy.NamedPort{{Name: "web", Protocol: policy.TCP, Port: backendPort}, {Name: "web", Protocol: policy.UDP, Port: echoPort}}
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := drawn{rand.New(rand.NewPCG(seed, 0)), w}
	asked, allowed := 0, 0
	for round := range rounds(t) {
		d.change()
		w.tell(t)
		all := w.questions()
		var asking sync.WaitGroup
		for _, q := range all {
			asking.Go(func() { q.ask(t) })
		}
		asking.Wait()
		d.settle(t, all)
		for _, q := range all {
			asked++
			if q.want {
				allowed++
			}
			if q.got != q.want {
				t.Errorf("round %d: %s to %s by %s at %d: connected %t, want %t", round, q.from.ns.Name(), q.to.at(q.port), q.protocol, q.port, q.got, q.want)
			}
		}
		if t.Failed() {
			t.Fatalf("policies: %+v, groups: %v", w.policies, w.groups)
		}
	}
	t.Logf("%d connections, %d of which may be", asked, allowed)
	if allowed < asked/20 || allowed > asked*19/20 {
		t.Error("the policies say too little")
	}
}
