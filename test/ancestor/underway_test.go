package ancestor

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// succession is a switch with the flows of OpenShift SDN, then of Damask. Three pods of one
// namespace, whose policies let nobody in to the first one and let the others send to all.
type succession struct {
	sw     *ovstest.Switch
	former *node
	heir   pipeline.Node
}

// address is a pod's by its port, 3 to 5.
func (s *succession) address(port int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 130, 0, byte(port)})
}

const vnid = 1001

func newSuccession(t *testing.T, succeeds bool) *succession {
	t.Helper()
	s := &succession{sw: ovstest.Start(t, ovstest.Options{})}
	s.sw.AddBridge(t, "br0")
	s.sw.Vsctl(t, "add-port", "br0", "vxlan0", "--", "set", "Interface", "vxlan0", "ofport_request=1", "type=vxlan", "options:key=flow", "options:remote_ip=flow",
		"--", "add-port", "br0", "tun0", "--", "set", "Interface", "tun0", "type=dummy", "ofport_request=2")
	for port := 3; port <= 5; port++ {
		s.sw.Vsctl(t, "add-port", "br0", fmt.Sprint("p", port), "--", "set", "Interface", fmt.Sprint("p", port), "type=dummy", fmt.Sprint("ofport_request=", port))
	}
	s.former = &node{tunMAC: "0a:58:0a:82:00:01", nodeMAC: "0a:00:00:00:00:01", Config: Config{
		Mode: NetworkPolicy, HostIP: netip.MustParseAddr("192.168.108.11"), Subnet: netip.MustParsePrefix("10.130.0.0/23"), VXLANPort: 4789,
		ClusterNetwork: netip.MustParsePrefix("10.128.0.0/14"), ServiceNetwork: netip.MustParsePrefix("172.30.0.0/16"),
		VNIDs: map[string]uint32{"red": vnid},
	}}
	s.heir = pipeline.Node{
		ClusterNetworks: []netip.Prefix{s.former.ClusterNetwork}, ServiceNetworks: []netip.Prefix{s.former.ServiceNetwork},
		Subnet: s.former.Subnet, Gateway: s.former.gateway(), HostIP: s.former.HostIP, TunnelPort: s.former.VXLANPort,
		Mode: pipeline.NetworkPolicy, Succeeds: succeeds,
	}
	flows := append(s.former.baseFlows(), "table=80,priority=100,ip,nw_dst="+s.address(3).String()+",actions=drop")
	for port := uint32(3); port <= 5; port++ {
		flows = append(flows, podFlows(s.address(int(port)), port, vnid)...)
	}
	s.bundle(t, flows)
	return s
}

// bundle replaces all flows.
func (s *succession) bundle(t *testing.T, flows []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte("flow delete\nflow add "+strings.Join(flows, "\nflow add ")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.sw.Ofctl(t, "bundle", "br0", file)
}

// takeOver replaces the flows by Damask's.
func (s *succession) takeOver(t *testing.T) {
	t.Helper()
	fragments := []pipeline.Fragment{pipeline.Base(s.heir), policyflow.Tables().Base()}
	for port := uint32(3); port <= 5; port++ {
		fragments = append(fragments, pipeline.PodFragment(s.heir, pipeline.Pod{
			Namespace: "red", Name: fmt.Sprint("p", port), IP: s.address(int(port)), Port: port, VNID: vnid,
		}))
	}
	isolated := openflow.Flow{
		Table: pipeline.TableIngressPolicy, Priority: 100, Match: openflow.IP().IPDst(netip.PrefixFrom(s.address(3), 32)), Actions: pipeline.IngressDenied(),
	}
	var flows []string
	for _, f := range append(fragments, pipeline.Fragment{Flows: []openflow.Flow{isolated}}) {
		for _, flow := range f.Flows {
			flows = append(flows, strings.ReplaceAll(flow.String(), " actions=", ",actions="))
		}
	}
	s.bundle(t, flows)
}

var (
	received = regexp.MustCompile(`tx pkts=(\d+)`)
	cached   = regexp.MustCompile(`(?m)^ufid:([0-9a-f-]+), .*recirc_id\((0x[0-9a-f]+|0)\)`)
	leadsTo  = regexp.MustCompile(`recirc\((0x[0-9a-f]+)\)`)
)

// passes sends a datagram from one pod to another, from port 40001 to 40000 if it is an answer,
// and says whether it arrives. What does not is waited for until all that the switch does
// with it has been done.
func (s *succession) passes(t *testing.T, from, to int, answer bool) bool {
	t.Helper()
	count := func() int {
		n, err := strconv.Atoi(received.FindStringSubmatch(s.sw.Ofctl(t, "dump-ports", "br0", fmt.Sprint(to)))[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	source, destination := 40000, 40001
	if answer {
		source, destination = destination, source
	}
	before := count()
	s.sw.Appctl(t, "netdev-dummy/receive", fmt.Sprint("p", from), fmt.Sprintf("in_port(1),eth(src=0a:58:0a:82:00:%02x,dst=0a:58:0a:82:00:%02x),eth_type(0x0800),"+
		"ipv4(src=%s,dst=%s,proto=17,tos=0,ttl=64,frag=no),udp(src=%d,dst=%d)", from, to, s.address(from), s.address(to), source, destination))
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		if count() > before {
			return true
		}
	}
	return false
}

// forget takes out of the cache what packets of a pod come to by the n-th lookup of their
// way, as when the switch has got to that piece first. The first piece stays.
func (s *succession) forget(t *testing.T, from, lookup int) {
	t.Helper()
	dump := s.sw.Appctl(t, "dpctl/dump-flows", "-m")
	id := "0"
	for range lookup {
		for line := range strings.Lines(dump) {
			found := cached.FindStringSubmatch(line)
			if found == nil || found[2] != id || !strings.Contains(line, fmt.Sprintf("in_port(p%d)", from)) {
				continue
			}
			if next := leadsTo.FindStringSubmatch(line); next != nil {
				id = next[1]
				break
			}
		}
	}
	gone := false
	for line := range strings.Lines(dump) {
		if found := cached.FindStringSubmatch(line); found != nil && found[2] == id && id != "0" {
			s.sw.Appctl(t, "dpctl/del-flow", "ufid:"+found[1])
			gone = true
		}
	}
	if !gone {
		t.Fatalf("nothing is cached behind lookup %d of what comes from %d:\n%s", lookup, from, dump)
	}
}

// TestWhatIsUnderWayArrives holds the switch between the two pipelines: what it has cached
// it does not correct, and of that the later pieces are gone one after the other. Packets
// must arrive all the same, and do not without the flows for it.
func TestWhatIsUnderWayArrives(t *testing.T) {
	for _, way := range []struct {
		name     string
		from, to int
		answer   bool
		lookup   int
		without  bool // arrives without a succession
	}{
		{"a question, which comes back to table 0", 3, 4, false, 1, true},
		{"a question, which comes back to table 31", 3, 4, false, 2, false},
		{"an answer, which comes back to table 0", 4, 3, true, 1, false},
		{"an answer, which comes back to table 70", 4, 3, true, 2, false},
	} {
		t.Run(way.name, func(t *testing.T) {
			for _, succeeds := range []bool{true, false} {
				s := newSuccession(t, succeeds)
				for range 2 {
					for _, answer := range []bool{false, true} {
						from, to := 3, 4
						if answer {
							from, to = to, from
						}
						if !s.passes(t, from, to, answer) {
							t.Fatalf("before, answer %t: it does not pass", answer)
						}
					}
				}
				s.sw.Appctl(t, "revalidator/pause")
				s.takeOver(t)
				s.forget(t, way.from, way.lookup)
				if passes := s.passes(t, way.from, way.to, way.answer); passes != (succeeds || way.without) {
					t.Errorf("with a succession %t: it passes %t\n%s\n%s", succeeds, passes,
						s.sw.Ofctl(t, "dump-flows", "br0"), s.sw.Appctl(t, "dpctl/dump-flows", "-m"))
				}
			}
		})
	}
}

// TestAnswersPassThatOnlyTheFormerFlowsHaveNoted has a pod that nobody may ask get its answer
// before it has spoken once more, when nothing of before is cached.
func TestAnswersPassThatOnlyTheFormerFlowsHaveNoted(t *testing.T) {
	for _, succeeds := range []bool{true, false} {
		s := newSuccession(t, succeeds)
		if !s.passes(t, 3, 4, false) {
			t.Fatal("before: the question does not pass")
		}
		s.takeOver(t)
		s.sw.Settle(t)
		if passes := s.passes(t, 4, 3, true); passes != succeeds {
			t.Errorf("with a succession %t: the answer passes %t", succeeds, passes)
		}
		if s.passes(t, 5, 3, true) {
			t.Errorf("with a succession %t: what answers nothing passes", succeeds)
		}
		if !s.passes(t, 3, 4, false) || !s.passes(t, 4, 3, true) {
			t.Errorf("with a succession %t: the conversation does not go on", succeeds)
		}
	}
}
