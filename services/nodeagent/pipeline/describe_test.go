package pipeline

import (
	"net/netip"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

func TestDescribeSaysWhatAFlowIsFor(t *testing.T) {
	pod := netip.MustParsePrefix("10.130.0.5/32")
	for _, c := range []struct {
		name string
		flow openflow.Flow
		want string
	}{
		{
			"a pod's port and VNID are decimal",
			flow(70, 100, openflow.IP().IPDst(pod), openflow.LoadReg(1, 0x82f8b2), openflow.LoadReg(2, 0x2d), openflow.Goto(80)),
			"to pod 10.130.0.5 of VNID 8583346 at port 45: may it enter?",
		},
		{
			"two VNIDs in one rule are not ours",
			flow(80, 100, openflow.Any().Reg(0, 1).Reg(1, 2), openflow.OutputReg(2)),
			foreign,
		},
		{
			"other actions are not ours",
			flow(80, 0, openflow.Any(), openflow.OutputReg(2)),
			foreign,
		},
		{
			"another table is not ours",
			flow(99, 0, openflow.Any()),
			foreign,
		},
		{
			"a marker of another program is not ours",
			flow(253, 32768, openflow.Any(), openflow.Note([]byte{2, 13, 0, 0, 0, 0})),
			foreign,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Describe(c.flow); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
