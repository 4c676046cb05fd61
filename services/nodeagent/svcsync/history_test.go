package svcsync

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// histories is how many histories each engine goes through, unless -rapid.checks says.
const histories = "12"

// foreign are somebody else's rules, in both kinds of iptables and in nftables.
const foreign = `
	for program in iptables-nft iptables-legacy; do
		$program-restore --noflush <<-END
			*nat
			:FOREIGN - [0:0]
			-A FOREIGN -s 203.0.113.9/32 -p tcp -m tcp --dport 81 -j ACCEPT
			-A PREROUTING -s 203.0.113.0/24 -j FOREIGN
			-A POSTROUTING -s 203.0.113.0/24 -j FOREIGN
			COMMIT
			*filter
			:FOREIGN - [0:0]
			:KUBE-FIREWALL - [0:0]
			-A KUBE-FIREWALL -s 203.0.113.7/32 -j DROP
			-A INPUT -s 203.0.113.0/24 -j FOREIGN
			-A FORWARD -s 203.0.113.0/24 -j FOREIGN
			-A FORWARD -j KUBE-FIREWALL
			COMMIT
		END
	done
	nft add table inet foreign
	nft add chain inet foreign forward '{ type filter hook forward priority 5; }'
	nft add rule inet foreign forward ip saddr 203.0.113.77 drop`

// A random history of services, slices and restarts ends where loading its end ends;
// what is somebody else's stays; and when all is deleted, nothing is left of it.
func TestAnyHistoryEndsAsIfItsEndWereLoadedAtOnce(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", histories); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set("rapid.checks", flag.Lookup("rapid.checks").DefValue) }()
	}
	for _, kind := range []string{"nftables", "iptables-nft", "iptables-legacy"} {
		t.Run(kind, func(t *testing.T) {
			proctest.Need(t, "nft", "iptables-nft", "iptables-legacy")
			w := newWorld(t, kind)
			rapid.Check(t, w.history)
		})
	}
}

// world is a node with foreign rules, and another to compare with.
type world struct {
	*rig
	fresh  *netnstest.Namespace
	before string // the ruleset without us
}

func newWorld(t *testing.T, kind string) *world {
	w := &world{rig: newRig(t, kind), fresh: netnstest.New(t, "fresh")}
	w.ns.Run(t, "sh", "-c", foreign)
	w.fresh.Run(t, "sh", "-c", foreign)
	w.before = w.ruleset()
	if fresh := rulesetOf(t, w.fresh); fresh != w.before || !strings.Contains(fresh, "203.0.113.77") {
		t.Fatalf("the two nodes do not begin alike:\n%s\n%s", w.before, fresh)
	}
	return w
}

func (w *world) history(t *rapid.T) {
	defer w.reset()
	w.start()
	empty := w.compared()
	for range rapid.IntRange(1, 15).Draw(t, "steps") {
		w.step(t)
	}
	w.settled()
	w.expectFresh(t)
	for path := range w.services.Snapshot() {
		w.removeService(path)
	}
	for path := range w.slices.Snapshot() {
		w.removeSlice(path)
	}
	w.settled()
	if got := w.compared(); got != empty {
		t.Fatalf("when all is deleted the kernel has\n%s\nwant\n%s", got, empty)
	}
	if left := len(w.Statuses()) + len(w.board.open) + len(w.ledger.plans) + len(w.ledger.wishes) + len(w.ledger.claims.contests); left > 0 || w.ledger.backends != 0 {
		t.Fatalf("%d things are remembered of nothing, and %d backends", left, w.ledger.backends)
	}
	w.stop()
	if got := w.ruleset(); got != empty {
		t.Fatalf("a stop leaves\n%s\nwant\n%s", got, empty)
	}
	if err := w.engine().Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.ruleset(); got != w.before {
		t.Fatalf("Cleanup leaves\n%s\nwant\n%s", got, w.before)
	}
}

// reset leaves a node on which nothing ever was, also after a history that failed.
func (w *world) reset() {
	w.stop()
	clear(w.services.objects)
	clear(w.slices.objects)
	if err := w.engine().Cleanup(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// compared answers the ruleset when the loop has compared everything.
func (w *world) compared() string {
	<-w.started
	if _, err := w.Audit(soon(w.t)); err != nil {
		w.t.Fatal(err)
	}
	return w.ruleset()
}

// expectFresh compares the kernel with one to which only the end of the history was
// loaded, by a ledger and an engine that know nothing else.
func (w *world) expectFresh(t *rapid.T) {
	l := newLedger(here, nil, false)
	for _, s := range w.services.Snapshot() {
		l.settle([]serviceName{l.setService(s)})
	}
	for _, s := range w.slices.Snapshot() {
		l.settle(l.book.SetSlice(s))
	}
	e, err := realEngine(w.kind, nodeView)
	if err != nil {
		t.Fatal(err)
	}
	w.fresh.Do(w.t, func() { _, err = e.Sync(t.Context(), l.state) })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.ruleset(), rulesetOf(w.t, w.fresh); got != want {
		t.Fatalf("%d service ports: the kernel has\n%s\nwant\n%s", len(l.state), got, want)
	}
	w.fresh.Do(w.t, func() { err = e.Cleanup(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
}

// step is one event in the life of the cluster, or of the agent.
func (w *world) step(t *rapid.T) {
	service := rapid.IntRange(0, 3).Draw(t, "service")
	part := rapid.IntRange(0, 1).Draw(t, "slice")
	slice := fmt.Sprintf("s%d-%d", service, part)
	switch rapid.SampledFrom([]string{"service", "service", "slice", "slice", "slice", "no service", "no slice", "wait", "restart"}).Draw(t, "step") {
	case "service":
		w.put(drawService(t, service))
	case "slice":
		w.putSlices(drawSlice(t, fmt.Sprintf("s%d", service), slice))
	case "no service":
		w.removeService(fmt.Sprintf("shop/s%d", service))
	case "no slice":
		w.removeSlice("shop/" + slice)
	case "wait":
		w.settled()
	case "restart":
		w.stop()
		w.start()
	}
}

// drawService makes one of four services of every type. Everything that servicelb gives
// to one service alone is its own here too, and so are external IPs: who has those that
// several want depends on the past.
func drawService(t *rapid.T, n int) *servicelbv1.Service {
	s := &servicelbv1.Service{Namespace: "shop", Name: fmt.Sprintf("s%d", n), ClusterIps: []string{fmt.Sprintf("172.30.0.%d", 10+n)}}
	s.Type = rapid.SampledFrom([]servicelbv1.ServiceType{
		servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP, servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT,
		servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER, servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME,
	}).Draw(t, "type")
	if rapid.IntRange(0, 9).Draw(t, "headless") == 0 {
		s.ClusterIps = []string{"None"}
	}
	protocols := rapid.SliceOfNDistinct(rapid.SampledFrom([]servicelbv1.Protocol{
		servicelbv1.Protocol_PROTOCOL_TCP, servicelbv1.Protocol_PROTOCOL_UDP, servicelbv1.Protocol_PROTOCOL_SCTP,
	}), 1, 3, rapid.ID).Draw(t, "protocols")
	outside := s.GetType() != servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP
	for i, p := range protocols {
		port := &servicelbv1.ServicePort{Name: strings.ToLower(strings.TrimPrefix(p.String(), "PROTOCOL_")), Protocol: p, Port: uint32(80 + i)}
		if outside {
			port.NodePort = uint32(30000 + 10*n + i)
		}
		s.Ports = append(s.Ports, port)
	}
	local := servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
	if rapid.Bool().Draw(t, "internal local") {
		s.InternalTrafficPolicy = local
	}
	if rapid.Bool().Draw(t, "external IP") {
		s.ExternalIps = []string{fmt.Sprintf("198.51.100.%d", 10+n)}
	}
	if rapid.Bool().Draw(t, "external local") {
		s.ExternalTrafficPolicy = local
	}
	if s.GetType() == servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER {
		s.LoadBalancerIps = []string{fmt.Sprintf("198.51.100.%d", 20+n)}
		if rapid.Bool().Draw(t, "ranges") {
			s.LoadBalancerSourceRanges = []string{"192.0.2.0/24", "198.18.0.0/15"}
		}
		if s.GetExternalTrafficPolicy() == local {
			s.HealthCheckNodePort = uint32(32000 + n)
		}
	}
	if rapid.Bool().Draw(t, "affinity") {
		s.SessionAffinity, s.SessionAffinityTimeoutSeconds = servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP, 600
	}
	s.PublishNotReadyAddresses = rapid.IntRange(0, 4).Draw(t, "publish") == 0
	return s
}

// drawSlice makes a slice of a service with up to four endpoints in every condition.
func drawSlice(t *rapid.T, service, name string) *servicelbv1.EndpointSlice {
	s := &servicelbv1.EndpointSlice{Namespace: "shop", Name: name, ServiceName: service}
	for _, p := range []servicelbv1.Protocol{servicelbv1.Protocol_PROTOCOL_TCP, servicelbv1.Protocol_PROTOCOL_UDP, servicelbv1.Protocol_PROTOCOL_SCTP} {
		if rapid.IntRange(0, 3).Draw(t, "port") > 0 {
			s.Ports = append(s.Ports, &servicelbv1.EndpointPort{Name: strings.ToLower(strings.TrimPrefix(p.String(), "PROTOCOL_")), Protocol: p, Port: 8080})
		}
	}
	addresses := rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 4, rapid.ID).Draw(t, "addresses")
	slices.Sort(addresses)
	for _, a := range addresses {
		node := rapid.SampledFrom([]string{here.Name, "node2", ""}).Draw(t, "node")
		s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.130.0.%d", a)}, NodeName: node,
			Conditions: rapid.SampledFrom([]*servicelbv1.EndpointConditions{
				nil, nil, nil,
				{Ready: proto.Bool(false)},
				{Ready: proto.Bool(false), Serving: proto.Bool(true), Terminating: proto.Bool(true)},
				{Ready: proto.Bool(false), Serving: proto.Bool(false), Terminating: proto.Bool(true)},
			}).Draw(t, "conditions"),
		})
	}
	return s
}

// What the ledger holds after any history is a state that an engine takes.
func TestAnyLedgerHoldsAStateThatAnEngineTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(here, nil, true)
		had := proxy.State{}
		for revision := range rapid.IntRange(1, 30).Draw(t, "steps") {
			n := rapid.IntRange(0, 3).Draw(t, "service")
			name := serviceName{Namespace: "shop", Service: fmt.Sprintf("s%d", n)}
			concerned := []serviceName{name}
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				l.deleteService(name)
			case 1:
				concerned = l.book.SetSlice(drawSlice(t, name.Service, name.Service+"-a"))
			default:
				s := drawService(t, n)
				s.Revision = uint64(revision + 1)
				// Nobody keeps these apart.
				s.ExternalIps = []string{fmt.Sprintf("172.30.0.%d", rapid.IntRange(10, 14).Draw(t, "external IP"))}
				l.setService(s)
			}
			l.settle(concerned)
			if err := l.state.Check(); err != nil {
				t.Fatal(err)
			}
			for _, c := range l.changes() { // what the engine is told makes of what it had what it is to have
				if delete(had, c.Key); c.Service != nil {
					had[c.Key] = *c.Service
				}
			}
			l.told()
			if !equalStates(had, l.state) {
				t.Fatalf("the engine has %v, want %v", had, l.state)
			}
		}
		backends := 0
		for _, e := range l.state {
			backends += len(e.ClusterBackends) + len(e.ExternalBackends)
		}
		if l.backends != backends {
			t.Fatalf("%d backends are counted, there are %d", l.backends, backends)
		}
	})
}
