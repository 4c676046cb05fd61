package flowsync

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

var (
	// cachedKey is of a line of dpctl/dump-flows -m: the packet that made it, and what is
	// done with all that are like it.
	cachedKey = regexp.MustCompile(`(?m)^.*ipv4\(src=([0-9.]+)[/,].*dst=([0-9.]+)[/,].*proto=17.*udp\(src=(\d+)[/,].*dst=(\d+)[/)].*actions:([^, ]+)`)
	traced    = regexp.MustCompile(`(?m)^Datapath actions: (.*)$`)
)

// TestWhatIsCachedIsWhatRandomFlowsSay changes flows whose matches overlap at random, sends
// packets between the changes, and compares all that the switch has cached with what it
// answers when it is asked anew.
func TestWhatIsCachedIsWhatRandomFlowsSay(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	for i := 1; i <= 3; i++ {
		ovs.Vsctl(t, "add-port", "br0", fmt.Sprint("p", i), "--", "set", "Interface", fmt.Sprint("p", i), "type=dummy", fmt.Sprint("ofport_request=", i))
	}
	ovs.Vsctl(t, "set", "Open_vSwitch", ".", "other_config:max-revalidator=100") // The pause between rounds, in ms.
	s, _ := startStamped(t, ovs)
	reconcile(t, s, wanted{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for round := range 60 {
		owner := draw.IntN(4)
		apply(t, s, Change{fmt.Sprint("owner ", owner), drawOverlapping(draw, uint16(100+10*owner))})
		ovs.Settle(t)
		for range 10 {
			ovs.Appctl(t, "netdev-dummy/receive", "p1", fmt.Sprintf("in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),"+
				"ipv4(src=10.0.0.%d,dst=10.0.0.%d,proto=17,tos=0,ttl=64,frag=no),udp(src=1000,dst=%d)", draw.IntN(4), draw.IntN(4), 8078+draw.IntN(5)))
		}
		for _, c := range cachedKey.FindAllStringSubmatch(ovs.Appctl(t, "dpctl/dump-flows", "-m", "--names"), -1) {
			answer := traced.FindStringSubmatch(ovs.Appctl(t, "ofproto/trace", "--names", "br0",
				fmt.Sprintf("in_port=p1,udp,nw_src=%s,nw_dst=%s,udp_src=%s,udp_dst=%s", c[1], c[2], c[3], c[4])))
			if answer == nil || answer[1] != c[5] {
				t.Fatalf("round %d: asked anew the switch says %q, and has cached %s", round, answer, c[0])
			}
			compared++
		}
	}
	t.Logf("compared %d", compared)
	if compared < 100 {
		t.Error("hardly anything was cached")
	}
}

// drawOverlapping draws up to three flows, each of which looks at something else.
func drawOverlapping(draw *rand.Rand, priority uint16) []openflow.Flow {
	var flows []openflow.Flow
	for i := range uint16(draw.IntN(4)) {
		m := openflow.UDP()
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(draw.IntN(4))})
		if draw.IntN(2) == 0 {
			m = m.DstPortMasked(8078+uint16(draw.IntN(4)), 0xffff<<draw.IntN(4))
		}
		if draw.IntN(2) == 0 {
			m = m.IPSrc(netip.PrefixFrom(addr, 30+draw.IntN(3)).Masked())
		}
		if draw.IntN(2) == 0 {
			m = m.IPDst(netip.PrefixFrom(addr, 30+draw.IntN(3)).Masked())
		}
		flows = append(flows, openflow.Flow{Priority: priority + i, Match: m, Actions: []openflow.Action{openflow.Output(2 + uint32(draw.IntN(2)))}})
	}
	return flows
}
