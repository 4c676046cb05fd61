package flowsync

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// runMetered is a Syncer with one meter, and where its copies go.
func runMetered(t *testing.T, ovs *ovstest.Switch) (*Syncer, chan openflow.PacketIn, func()) {
	t.Helper()
	copies := make(chan openflow.PacketIn, 16)
	s := New(Config{
		Socket: ovs.MgmtSocket("br0"), Fragments: openflow.FragmentsNXMatch,
		Meters: []openflow.Meter{{ID: 1, Rate: 1000, Burst: 1000}}, Copied: func(p openflow.PacketIn) { copies <- p },
	}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return s, copies, stop
}

const udpPacket = "0200000000020200000000010800" + "4500001d00004000401100000a0000010a000002" + "0035d43100090000" + "ab"

func TestMetersComeBeforeFlowsAndOutliveTheirAgent(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	ovs.Vsctl(t, "add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=dummy", "ofport_request=1")
	want := wanted{"copying": {{Match: openflow.UDP(), Actions: []openflow.Action{openflow.Copy(1)}}}}
	s, copies, stop := runMetered(t, ovs)
	if can, err := s.HasMeters(t.Context()); err != nil || !can {
		t.Fatal(can, err)
	}
	if diff := reconcile(t, s, want); len(diff.Added) != 1 {
		t.Fatalf("got %+v", diff)
	}
	copied := func() {
		t.Helper()
		ovs.Appctl(t, "netdev-dummy/receive", "p1", udpPacket)
		select {
		case p := <-copies:
			if p.Cookie != Cookie("copying") || p.InPort() != 1 {
				t.Errorf("got a copy of flow %#x by port %d", p.Cookie, p.InPort())
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no copy came")
		}
	}
	copied()

	// An agent that is stopped leaves meter and flow; the next one finds nothing to do.
	stop()
	if got := ovs.Ofctl(t, "-O", "OpenFlow13", "dump-meters", "br0"); !strings.Contains(got, "rate=1000") {
		t.Errorf("meters after the stop:\n%s", got)
	}
	s, copies, _ = runMetered(t, ovs)
	if diff := reconcile(t, s, want); !diff.Empty() {
		t.Errorf("the next agent changed %+v", diff)
	}
	copied()

	// Somebody takes the meter away: it is made again, and the flow is bound to it again.
	ovs.Ofctl(t, "-O", "OpenFlow13", "del-meters", "br0")
	if diff := reconcile(t, s, nil); len(diff.Modified)+len(diff.Added) != 1 {
		t.Errorf("after the meter was deleted: %+v", diff)
	}
	if diff := reconcile(t, s, nil); !diff.Empty() {
		t.Errorf("and then %+v", diff)
	}
	copied()

	ovs.KillVswitchd()
	ovs.StartVswitchd(t)
	<-s.Connected()
	if diff := reconcile(t, s, nil); len(diff.Added) != 1 {
		t.Errorf("after a restart of the switch: %+v", diff)
	}
	copied()
}
