package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// words writes elements as nft would, one in a line, in order.
func (i items) words() string {
	var lines []string
	for e := range i {
		line := e.set + " " + wordsOf(e.key)
		if e.value != "" {
			line += " : " + wordsOf(e.value)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// wordsOf writes each register in hexadecimal.
func wordsOf(data string) string {
	var words []string
	for part := range slices.Chunk([]byte(data), 4) {
		words = append(words, fmt.Sprintf("%x", part))
	}
	return strings.Join(words, ".")
}

func testService() proxy.Service {
	pod := func(text string) proxy.Backend {
		a := netip.MustParseAddrPort(text)
		return proxy.Backend{Addr: a.Addr(), Port: a.Port()}
	}
	return proxy.Service{
		Key:             proxy.Key{Namespace: "shop", Name: "web", Protocol: proxy.TCP},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("fd00::1")},
		Port:            80,
		ClusterBackends: []proxy.Backend{pod("10.128.0.3:8080"), pod("10.128.0.2:8080"), pod("[fd00::2]:8080")},
	}
}

func TestClusterIPIsAFewElements(t *testing.T) {
	needs := compile(testService())
	first, second := wordsOf(number(0)), wordsOf(number(1))
	const f = "ac1e0001.06000000.00500000"
	want := strings.Join([]string{
		"backends " + f + "." + first + " : 0a800002.1f900000",
		"backends " + f + "." + second + " : 0a800003.1f900000",
		"hairpin 0a800002.0a800002",
		"hairpin 0a800003.0a800003",
		"pick-cluster-2 " + f,
		"ways-cluster " + f,
	}, "\n")
	if got := needs.items.words(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(needs.choices) != 1 || !needs.choices[choice{scope: clusterScope, count: 2}] {
		t.Errorf("choices are %v", needs.choices)
	}
}

func TestFrontendsGoTheirWay(t *testing.T) {
	local := proxy.Backend{Addr: netip.MustParseAddr("10.128.0.2"), Port: 8080, Local: true}
	for _, c := range []struct {
		name   string
		change func(*proxy.Service)
		want   []string // sets that hold the service's node port, its balancer's address
	}{
		{"everybody may use it", func(*proxy.Service) {}, []string{"ways-external", "pick-external-1", "ways-external", "pick-external-1"}},
		{"with source ranges", func(s *proxy.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} },
			[]string{"ways-external", "pick-external-1", "ways-limited", "pick-external-1"}},
		{"local", func(s *proxy.Service) { s.ExternalLocal = true },
			[]string{"ways-external-local", "pick-cluster-2", "pick-external-1", "ways-external-local", "pick-cluster-2", "pick-external-1"}},
		{"local, with source ranges of the other family", func(s *proxy.Service) {
			s.ExternalLocal, s.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("fd00::/64")}
		}, []string{"ways-external-local", "pick-cluster-2", "pick-external-1", "ways-limited-local", "pick-cluster-2", "pick-external-1"}},
		{"local, no backend here", func(s *proxy.Service) { s.ExternalLocal, s.ExternalBackends = true, nil },
			[]string{"ways-external-local", "pick-cluster-2", "refused-outside-silence", "ways-external-local", "pick-cluster-2", "refused-outside-silence"}},
		{"no backend", func(s *proxy.Service) { s.ClusterBackends, s.ExternalBackends = nil, nil },
			[]string{"refused-inside-reject", "refused-outside-reject", "refused-inside-reject", "refused-outside-reject"}},
		{"backends of the other family only", func(s *proxy.Service) {
			s.ClusterBackends = []proxy.Backend{{Addr: netip.MustParseAddr("fd00::2"), Port: 8080}}
			s.ExternalBackends = s.ClusterBackends
		}, []string{"refused-inside-reject", "refused-outside-reject", "refused-inside-reject", "refused-outside-reject"}},
		{"with affinity", func(s *proxy.Service) { s.Affinity = 3 * time.Hour },
			[]string{"ways-external", "sticky-external-1-10800", "sticky", "ways-external", "sticky-external-1-10800", "sticky"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testService()
			s.NodePort, s.LoadBalancerIPs = 30080, []netip.Addr{netip.MustParseAddr("198.51.100.1")}
			s.ExternalBackends = []proxy.Backend{local}
			c.change(&s)
			needs := compile(s)
			var got []string
			for _, f := range []string{frontend(anyAddress, proxy.TCP, 30080), frontend(s.LoadBalancerIPs[0], proxy.TCP, 80)} {
				for e := range needs.items {
					if e.key == f {
						got = append(got, e.set)
					}
				}
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestAddressOfTwoKindsIsOneFrontend(t *testing.T) {
	s := testService()
	s.ExternalIPs, s.LoadBalancerIPs, s.ExternalBackends = s.ClusterIPs, s.ClusterIPs, s.ClusterBackends
	if got, want := compile(s).items.words(), compile(testService()).items.words(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOrderOfBackendsDoesNotMatter(t *testing.T) {
	s := testService()
	want := compile(s).items.words()
	slices.Reverse(s.ClusterBackends)
	s.ClusterBackends = append(s.ClusterBackends, s.ClusterBackends[0])
	if got := compile(s).items.words(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTooManyBackendsAreRefused(t *testing.T) {
	s := testService()
	s.ClusterBackends = make([]proxy.Backend, maxBackends+1)
	if err := checkSize(s); err == nil || !strings.Contains(err.Error(), "shop/web: 32769 backends") {
		t.Errorf("got error %v", err)
	}
	s.ClusterBackends = s.ClusterBackends[1:]
	if err := checkSize(s); err != nil {
		t.Errorf("got error %v", err)
	}
}

func TestStaleEntriesAreThoseOfBackendsThatWent(t *testing.T) {
	service := testService()
	service.Protocol = proxy.UDP
	fewer, none := service, service
	fewer.ClusterBackends, none.ClusterBackends = service.ClusterBackends[:1], nil
	f := frontend(service.ClusterIPs[0], proxy.UDP, 80)
	between := func(before, after proxy.Service) stale {
		old, wanted := compile(before).items, compile(after).items
		return staleAfter(transaction{added: wanted.without(old), taken: old.without(wanted)})
	}
	gone := netip.MustParseAddrPort("10.128.0.2:8080")
	if s := between(service, fewer); len(s.removed[f]) != 1 || !s.removed[f][gone] || len(s.opened) != 0 {
		t.Errorf("a backend less: %+v", s)
	}
	if s := between(fewer, service); len(s.removed) != 0 || len(s.opened) != 0 {
		t.Errorf("a backend more: %+v", s)
	}
	if s := between(none, service); len(s.removed) != 0 || !s.opened[f] {
		t.Errorf("the first backends: %+v", s)
	}
	external := service
	external.ClusterIPs, external.ExternalIPs, external.ExternalBackends = nil, service.ClusterIPs, service.ClusterBackends
	if s := between(service, external); len(s.removed) != 0 || len(s.opened) != 0 {
		t.Errorf("another way: %+v", s)
	}
	service.Protocol, fewer.Protocol = proxy.TCP, proxy.TCP
	if s := between(service, fewer); len(s.removed) != 0 || len(s.opened) != 0 {
		t.Errorf("tcp: %+v", s)
	}
}
