package proxy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func web() proxy.Service {
	return proxy.Service{
		Key:             proxy.Key{Namespace: "shop", Name: "web", PortName: "http", Protocol: proxy.TCP},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("172.30.0.10")},
		Port:            80,
		NodePort:        30080,
		ClusterBackends: []proxy.Backend{{Addr: netip.MustParseAddr("10.130.0.10"), Port: 8080, Local: true}},
	}
}

func TestServiceErrorNamesEveryProblem(t *testing.T) {
	s := proxy.Service{
		Key:              proxy.Key{Namespace: "Shop", PortName: "a b", Protocol: "ICMP"},
		ClusterIPs:       []netip.Addr{netip.MustParseAddr("::ffff:1.2.3.4")},
		ExternalIPs:      []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Affinity:         1500 * time.Millisecond,
		SourceRanges:     []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")},
		ExternalBackends: []proxy.Backend{{Addr: netip.MustParseAddr("10.130.0.10")}},
	}
	err := s.Check()
	for _, part := range []string{`namespace "Shop"`, `name ""`, `port name "a b"`, `protocol "ICMP"`, "port is missing", "affinity 1.5s",
		"address ::ffff:1.2.3.4", "address 127.0.0.1", "source range 10.0.0.1/8", "backend 10.130.0.10 port 0"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	if err := web().Check(); err != nil {
		t.Errorf("a good service is refused: %v", err)
	}
}

func TestNodeErrorNamesEveryProblem(t *testing.T) {
	err := proxy.Node{NodePortNetworks: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, MasqueradeBit: 32, Gateway: "a device name"}.Check()
	for _, part := range []string{"cluster networks are missing", "2001:db8::/32", "masquerade bit 32", `gateway "a device name"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestVerdictTellsSilenceFromRefusal(t *testing.T) {
	some := web().ClusterBackends
	for _, c := range []struct {
		name              string
		service           proxy.Service
		cluster, external proxy.Verdict
	}{
		{"backends everywhere", proxy.Service{ClusterBackends: some, ExternalBackends: some}, proxy.Forward, proxy.Forward},
		{"no backend at all", proxy.Service{}, proxy.Reject, proxy.Reject},
		{"no backend at all, local policies", proxy.Service{InternalLocal: true, ExternalLocal: true}, proxy.Reject, proxy.Reject},
		{"no local backend for outside", proxy.Service{ExternalLocal: true, ClusterBackends: some}, proxy.Forward, proxy.Drop},
		{"no local backend for inside", proxy.Service{InternalLocal: true, ExternalBackends: some}, proxy.Drop, proxy.Forward},
		{"backends elsewhere, local policies", proxy.Service{Elsewhere: true, InternalLocal: true, ExternalLocal: true}, proxy.Drop, proxy.Drop},
		{"backends elsewhere, no local policy", proxy.Service{Elsewhere: true}, proxy.Reject, proxy.Reject},
		{"held", proxy.Service{Held: true}, proxy.Drop, proxy.Drop},
		{"held, with backends", proxy.Service{Held: true, ClusterBackends: some, ExternalBackends: some}, proxy.Forward, proxy.Forward},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.service.ClusterVerdict(); got != c.cluster {
				t.Errorf("cluster: got %v, want %v", got, c.cluster)
			}
			if got := c.service.ExternalVerdict(); got != c.external {
				t.Errorf("external: got %v, want %v", got, c.external)
			}
		})
	}
}

func TestStateErrorNamesServicesThatClaimTheSame(t *testing.T) {
	a, b := web(), web()
	b.Name = "other"
	err := proxy.State{a.Key: a, b.Key: b}.Check()
	for _, part := range []string{"shop/other:http and shop/web:http both claim 172.30.0.10:80/TCP", "both claim node port 30080/TCP"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	b.ClusterIPs, b.NodePort = nil, 0
	if err := (proxy.State{a.Key: a, b.Key: b}).Check(); err != nil {
		t.Errorf("services that share nothing are refused: %v", err)
	}
	if err := (proxy.State{b.Key: a}).Check(); err == nil || !strings.Contains(err.Error(), "is filed as") {
		t.Errorf("a service under another's key: got error %v", err)
	}
}

func TestAddressMovesFromOneServiceToAnotherInOneCall(t *testing.T) {
	var book proxy.Book
	a, b := web(), web()
	b.Name = "other"
	book.Replace(proxy.State{a.Key: a})
	if _, err := book.Plan([]proxy.Change{{Key: b.Key, Service: &b}}); err == nil {
		t.Error("the second claim is not refused")
	}
	steps, err := book.Plan([]proxy.Change{{Key: b.Key, Service: &b}, {Key: a.Key}})
	if err != nil || len(steps) != 2 {
		t.Fatalf("got steps %v, error %v", steps, err)
	}
	book.Commit(steps)
	if _, there := book.Service(a.Key); there || book.Len() != 1 {
		t.Errorf("the book holds %d services, the old one: %v", book.Len(), there)
	}
}

// TestBookRefusesWhatTheStateWouldRefuse compares the book's index with the check of
// all, over random histories.
func TestBookRefusesWhatTheStateWouldRefuse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var book proxy.Book
		state := proxy.State{}
		for range rapid.IntRange(1, 20).Draw(t, "calls") {
			var changes []proxy.Change
			next := proxy.State{}
			for k, v := range state {
				next[k] = v
			}
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				s := web()
				s.Name = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
				s.NodePort = uint16(rapid.IntRange(0, 2).Draw(t, "node port"))
				s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))})}
				if rapid.Bool().Draw(t, "delete") {
					changes = append(changes, proxy.Change{Key: s.Key})
					delete(next, s.Key)
				} else {
					changes = append(changes, proxy.Change{Key: s.Key, Service: &s})
					next[s.Key] = s
				}
			}
			steps, err := book.Plan(changes)
			if want := next.Check(); (err == nil) != (want == nil) {
				t.Fatalf("the book says %v, the state %v", err, want)
			}
			if err != nil {
				continue
			}
			if !slices.IsSortedFunc(steps, func(x, y proxy.Step) int { return x.Key.Compare(y.Key) }) {
				t.Fatalf("steps are not sorted: %v", steps)
			}
			book.Commit(steps)
			state = next
			if book.Len() != len(state) {
				t.Fatalf("the book holds %d, want %d", book.Len(), len(state))
			}
		}
	})
}
