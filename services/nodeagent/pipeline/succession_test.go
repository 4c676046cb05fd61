package pipeline_test

import (
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
)

// caseOf finds a case of nodeCases.
func caseOf(t *testing.T, name string) nodeCase {
	t.Helper()
	for _, c := range nodeCases() {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("there is no case %s", name)
	return nodeCase{}
}

// TestWhatFormerFlowsLookedUpTakesOurWay traces packets as they come back to table 0 from
// OpenShift SDN's lookup: an answer must be looked up once more, for its address.
func TestWhatFormerFlowsLookedUpTakesOurWay(t *testing.T) {
	sw := startNode(t, caseOf(t, "succession"))
	for _, w := range []struct{ name, packet, end string }{
		{"from a pod", "in_port=4,ct_state=trk|est|rpl,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5", "3"},
		{"from a pod that is new there", "in_port=4,ct_state=trk|new,udp,nw_src=10.130.0.6,nw_dst=10.130.0.5", "3"},
		{"from another node", fromTunnel + "ct_state=trk|est|rpl,tun_id=0x82f8b2,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", "3"},
		{"of another tenant", fromTunnel + "ct_state=trk|est|rpl,tun_id=0x426a5,tcp,nw_src=10.131.0.4,nw_dst=10.130.0.5", "drop"},
		{"with another address", "in_port=4,ct_state=trk|est|rpl,tcp,nw_src=10.130.0.7,nw_dst=10.130.0.5", "drop"},
	} {
		t.Run(w.name, func(t *testing.T) {
			answer := sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,est,rpl,dnat", "br0", w.packet)
			if got := end(answer); got != w.end {
				t.Errorf("got %s, want %s:\n%s", got, w.end, answer)
			}
			if w.end != "drop" && !strings.Contains(answer, "ct(nat),recirc(") {
				t.Errorf("it was not looked up:\n%s", answer)
			}
		})
	}
	t.Run("from the kernel, which tracks by itself", func(t *testing.T) {
		answer := sw.Appctl(t, "ofproto/trace", "br0", "in_port=2,ct_state=trk|est,tcp,nw_src=192.0.2.7,nw_dst=10.130.0.5")
		if got := end(answer); got != "3" || strings.Contains(answer, "recirc(") {
			t.Errorf("got %s, want 3 without a lookup:\n%s", got, answer)
		}
	})
}

// TestWhatIsUnderWayPassesPolicies traces packets of connections that are known to zone 0
// and not to zone 22, where shop/web's policies let nobody in but one.
func TestWhatIsUnderWayPassesPolicies(t *testing.T) {
	switches := map[string]*ovstest.Switch{}
	for _, name := range []string{"succession-policies", "succession-policies-netdev"} {
		switches[name] = startNode(t, caseOf(t, name))
	}
	const toWeb = "tcp,nw_src=10.130.0.7,nw_dst=10.130.0.5,tcp_src=40000,tcp_dst=40001"
	for _, w := range []struct {
		name, packet, at string
		states           []string // of one lookup after the other
		end              string
	}{
		{"an answer to zone 0", "in_port=5," + toWeb, "", []string{"trk,new", "trk,est,rpl"}, "3"},
		{"an answer to nobody", "in_port=5," + toWeb, "", []string{"trk,new", "trk,new"}, "drop"},
		{"of a connection that began before, from its opener", "in_port=5," + toWeb, "", []string{"trk,new", "trk,est"}, "drop"},
		{"an answer from another node", fromTunnel + "tun_id=0x426a5,tcp,nw_src=10.131.0.9,nw_dst=10.130.0.5,tcp_src=40000,tcp_dst=40001", "", []string{"trk,new", "trk,est,rpl"}, "3"},
		{"an answer that they gave its address", "in_port=5,ct_state=trk|est|rpl," + toWeb, "70", nil, "3"},
		{"what they gave its address and is no answer", "in_port=5,ct_state=trk|est," + toWeb, "70", nil, "drop"},
	} {
		for name, sw := range switches {
			t.Run(name+"/"+w.name, func(t *testing.T) {
				command, args := "ofproto/trace", []string(nil)
				for _, s := range w.states {
					args = append(args, "--ct-next", s)
				}
				args = append(args, "br0", w.packet)
				if w.at != "" {
					command = "ofproto/trace-packet-out"
					args = append(args, "resubmit(,"+w.at+")")
				}
				answer := sw.Appctl(t, command, args...)
				if got := end(answer); got != w.end {
					t.Errorf("got %s, want %s:\n%s", got, w.end, answer)
				}
			})
		}
	}
	t.Run("noted by the former flows", func(t *testing.T) {
		answer := switches["succession-policies"].Appctl(t, "ofproto/trace-packet-out", "br0", "in_port=5,ct_state=trk|est,"+toWeb, "resubmit(,31)")
		if !strings.Contains(answer, "Datapath actions: ct_clear,ct(zone=22),recirc(") {
			t.Errorf("it does not begin anew:\n%s", answer)
		}
	})
	for _, w := range []struct {
		name, state string
		here, end   string
	}{
		{"an answer for the kernel", "trk|est|rpl", "trk,new", "3"},
		{"a question for the kernel", "trk|est", "trk,new", "drop"},
		{"an answer for the kernel, in a connection known here", "trk|est|rpl", "trk,est,rpl", "3"},
	} {
		t.Run(w.name, func(t *testing.T) {
			answer := switches["succession-policies"].Appctl(t, "ofproto/trace", "--ct-next", w.here, "br0", "in_port=2,ct_state="+w.state+",udp,nw_src=192.0.2.7,nw_dst=10.130.0.5,udp_src=53,udp_dst=40001")
			if got := end(answer); got != w.end {
				t.Errorf("got %s, want %s:\n%s", got, w.end, answer)
			}
		})
	}
}
