package openflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/ovstest"
)

// limit is how long a test waits for the switch before it fails.
const limit = 30 * time.Second

// connect starts a switch with a bridge br0 and opens a connection to it.
func connect(t testing.TB) (*ovstest.Switch, *Conn) {
	t.Helper()
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	return ovs, dial(t, ovs)
}

func dial(t testing.TB, ovs *ovstest.Switch) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := Dial(ctx, ovs.MgmtSocket("br0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dump returns copies of all flows.
func dump(t testing.TB, c *Conn) []InstalledFlow {
	t.Helper()
	var flows []InstalledFlow
	err := c.EachFlow(t.Context(), func(f InstalledFlow) {
		f.Actions = slices.Clone(f.Actions)
		flows = append(flows, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

var (
	cookieText   = regexp.MustCompile(`cookie=0x[0-9a-f]+, `)
	priorityText = regexp.MustCompile(`priority=\d+`)
)

// ofctlFlows is what ovs-ofctl prints, one flow a line, spelled as Flow.String: table and priority always there.
func ofctlFlows(t testing.TB, ovs *ovstest.Switch) []string {
	t.Helper()
	var flows []string
	for line := range strings.Lines(ovs.Ofctl(t, "--no-names", "--no-stats", "dump-flows", "br0")) {
		line = cookieText.ReplaceAllString(strings.TrimSpace(line), "")
		if strings.HasPrefix(line, "OFPST_FLOW") || strings.HasPrefix(line, "NXST_FLOW") || line == "" {
			continue
		}
		if !strings.HasPrefix(line, "table=") {
			line = "table=0, " + line
		}
		if !priorityText.MatchString(line) {
			table, rest, _ := strings.Cut(line, ", ")
			if !strings.HasPrefix(rest, "actions=") {
				rest = "," + rest
			} else {
				rest = " " + rest
			}
			line = table + ", priority=32768" + rest
		}
		flows = append(flows, line)
	}
	slices.Sort(flows)
	return flows
}

func texts(flows []InstalledFlow) []string {
	var all []string
	for _, f := range flows {
		all = append(all, f.String())
	}
	slices.Sort(all)
	return all
}

func adds(flows ...Flow) []Mod {
	var mods []Mod
	for _, f := range flows {
		mods = append(mods, Mod{Command: Add, Flow: f})
	}
	return mods
}

func TestWhatWeSendOvsOfctlPrintsAndTheSwitchDumpsBack(t *testing.T) {
	ovs, c := connect(t)
	want := map[Key]Flow{}
	cookie := uint64(0xfedcba9876543210)
	for _, f := range samples() {
		cookie++
		f.Cookie = cookie
		want[f.Key()] = f
	}
	if _, err := c.KeepMeters(t.Context(), []Meter{{1, 100, 100}, {2, 100, 100}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Bundle(t.Context(), adds(slices.Collect(maps.Values(want))...)); err != nil {
		t.Fatal(err)
	}
	if got, want := ofctlFlows(t, ovs), slices.Sorted(maps.Keys(samples())); !slices.Equal(got, want) {
		t.Errorf("ovs-ofctl got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	flows := dump(t, c)
	for _, f := range flows {
		if !f.Equal(want[f.Key()]) || !f.Permanent() {
			t.Errorf("dump got  %#v\nwant %#v", f.Flow, want[f.Key()])
		}
	}
	if len(flows) != len(want) {
		t.Errorf("dump got %d flows, want %d", len(flows), len(want))
	}
}

// foreign are flows as other tools write them, among them what we never build.
var foreign = []string{
	"table=1,priority=32768 actions=drop",
	"table=1,priority=5,tcp6,ipv6_src=fd00::/8,tp_dst=443 actions=output:3",
	"table=1,priority=6,icmp6,icmp_type=135,icmp_code=0,nd_target=fd00::1 actions=NORMAL",
	"table=1,priority=7,icmp,icmp_type=8,icmp_code=0 actions=IN_PORT",
	"table=1,priority=8,dl_vlan=5,dl_vlan_pcp=3 actions=FLOOD",
	"table=1,priority=9,vlan_tci=0 actions=ALL",
	"table=1,priority=10,vlan_tci=0x1000/0x1000 actions=CONTROLLER:128",
	"table=1,priority=11,tcp,tcp_flags=+syn-ack actions=output:1,output:2",
	"table=1,priority=12,tcp,tcp_flags=0x2 actions=drop",
	"table=1,priority=13,ip,nw_frag=yes actions=drop",
	"table=1,priority=14,ip,nw_frag=first actions=drop",
	"table=1,priority=15,ip,nw_frag=later actions=drop",
	"table=1,priority=16,ip,nw_frag=not_later,nw_tos=32,nw_ecn=1,nw_ttl=64 actions=drop",
	"table=1,priority=17,dl_type=0x1234 actions=drop",
	"table=1,priority=18,metadata=0x5/0xff,ip,nw_src=10.0.0.0/255.0.255.0 actions=resubmit:5,resubmit(3,81),resubmit(,7)",
	"table=1,priority=19,ip,ct_label=0x1234567890abcdef1234 actions=ct(commit,zone=5,exec(load:0x1->NXM_NX_CT_MARK[0..7])),ct_clear",
	"table=1,priority=20,ip,ct_nw_src=10.0.0.1,ct_nw_proto=6,ct_tp_dst=80,ct_state=+trk+est actions=ct(commit,nat(src=10.0.0.1-10.0.0.9,random)),ct(commit,nat(src)),ct(commit,nat(dst=10.0.0.1,hash,persistent))",
	"table=1,priority=21,ip actions=load:0xa000001->NXM_OF_IP_SRC[],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:3->nw_ttl",
	"table=1,priority=22,tcp actions=set_field:81->tcp_dst,set_field:10.0.0.9->ip_dst,set_field:0x7->tun_id,set_field:0x5->reg3",
	"table=1,priority=23,rarp actions=drop",
	"table=1,priority=24,ip,nw_proto=47 actions=load:0x1->NXM_NX_REG0[3],load:0x1->NXM_NX_REG0[4..7]",
	"table=1,priority=25,ip,tun_dst=10.0.0.1,tun_id=0x5/0xff actions=output:NXM_NX_REG0[0..15]",
	"table=1,priority=26,ipv6,ipv6_label=0x5 actions=ct(commit,table=9,nat(dst=fd00::1-fd00::9)),ct(commit,nat(src=[fd00::1]-[fd00::9]:1-10))",
	"table=1,priority=27,ct_state=+new+est+rel+rpl+inv+trk+snat+dnat,ip actions=clear_actions,goto_table:5",
	"table=1,priority=28,in_port=LOCAL,arp,arp_op=2,arp_spa=1.2.3.4,arp_tpa=1.2.0.0/16,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02 actions=drop",
	"table=1,priority=29,tun_ipv6_src=fd00::5,reg15=0xffffffff,pkt_mark=0x1/0x3 actions=set_field:fd00::7->tun_ipv6_dst",
	"table=1,priority=30,dl_src=02:00:00:00:00:00/02:00:00:00:00:00 actions=note:aa.bb",
	"table=1,priority=31,udp6,tp_src=5 actions=dec_ttl",
	"table=1,priority=33,ct_state=0,ct_mark=0x3/0x7,ip actions=drop",
	"table=1,priority=34,tcp,tcp_flags=0 actions=drop",
	"table=1,priority=35,ipv6,ipv6_label=0x5/0xff,ipv6_src=fd00::5/ffff::ffff actions=drop",
	"table=1,priority=32,sctp6,tp_dst=5 actions=drop",
}

func TestWhatOvsOfctlAddsWeReadAsItPrintsAndCanSendAgain(t *testing.T) {
	ovs, c := connect(t)
	for _, f := range foreign {
		ovs.Ofctl(t, "add-flow", "br0", f)
	}
	flows := dump(t, c)
	if got, want := texts(flows), ofctlFlows(t, ovs); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", difference(got, want), difference(want, got))
	}
	ovs.Ofctl(t, "del-flows", "br0")
	var again []Mod
	for _, f := range flows {
		again = append(again, Mod{Add, f.Flow})
	}
	if err := c.Bundle(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	for i, f := range dump(t, c) {
		if !f.Equal(flows[i].Flow) {
			t.Errorf("sent again got %s, want %s", f.Flow, flows[i].Flow)
		}
	}
}

// difference is what is in a and not in b.
func difference(a, b []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) }), "\n")
}

func TestTextGivenToOvsOfctlIsReadAsTheSameFlow(t *testing.T) {
	ovs, c := connect(t)
	want := map[Key]Flow{}
	for text, f := range samples() {
		ovs.Ofctl(t, "add-flow", "br0", strings.ReplaceAll(text, ", ", ","))
		want[f.Key()] = f
	}
	for _, f := range dump(t, c) {
		if !f.Equal(want[f.Key()]) {
			t.Errorf("got %#v\nwant %#v", f.Flow, want[f.Key()])
		}
	}
}

func TestWhatWeDoNotKnowIsKeptAndDoesNotBreakADump(t *testing.T) {
	ovs, c := connect(t)
	for _, f := range []string{
		"table=2,priority=1 actions=learn(table=3,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
		"table=2,priority=2 actions=write_actions(output:3),goto_table:5",
		"table=2,priority=3,tun_gbp_id=5 actions=output:1",
		"table=2,priority=4,dl_vlan=3 actions=pop_vlan,output:1",
		"table=2,priority=5,mpls,mpls_label=3 actions=drop",
		"table=2,priority=6 actions=write_metadata:0x5/0xff,goto_table:9",
		"table=2,priority=7,idle_timeout=100,cookie=5,ip actions=sample(probability=1,collector_set_id=1,obs_domain_id=1,obs_point_id=1)",
	} {
		ovs.Ofctl(t, "add-flow", "br0", f)
	}
	flows := dump(t, c)
	if len(flows) != 7 {
		t.Errorf("got %d flows, want 7", len(flows))
	}
	var again []Mod
	for _, f := range flows {
		if text := f.String(); !strings.Contains(text, "unknown(") {
			t.Errorf("%s: got no unknown(", text)
		}
		if f.Priority == 7 && f.Permanent() {
			t.Errorf("%s: got permanent, want an idle timeout", f)
		}
		again = append(again, Mod{DeleteStrict, f.Flow})
	}
	if err := c.Bundle(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if flows := dump(t, c); len(flows) != 0 {
		t.Errorf("after deleting by key got %v", flows)
	}
}

// badGroup is a flow that the switch refuses, although it is well formed.
func badGroup(n uint32) Flow {
	return Flow{Table: 5, Priority: 5, Match: Any().Reg(0, n), Actions: []Action{Group(4000 + n)}}
}

func TestARefusedFlowIsNamedAndNothingOfItsBundleIsApplied(t *testing.T) {
	_, c := connect(t)
	good := Flow{Table: 5, Priority: 1, Actions: []Action{Output(1)}}
	prereq := Flow{Table: 6, Priority: 9, Match: Any().with16(oxmTCPDst, 80)}
	err := c.Bundle(t.Context(), adds(good, badGroup(1), prereq))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a RefusedError", err)
	}
	var indexes []int
	for _, r := range refused.Refusals {
		indexes = append(indexes, r.Index)
	}
	if len(indexes) == 0 || slices.Contains(indexes, 0) {
		t.Errorf("got refusals of %v, want 1 or 2 or both", indexes)
	}
	if !strings.Contains(err.Error(), "table=") || !strings.Contains(err.Error(), "OFP") {
		t.Errorf("got %q, want the flow and the switch's reason", err)
	}
	var cause SwitchError
	if !errors.As(err, &cause) {
		t.Errorf("got %v, want a SwitchError in it", err)
	}
	if flows := dump(t, c); len(flows) != 0 {
		t.Errorf("got %v, want no flow", flows)
	}
}

func TestAFlowThatFailsAtTheCommitIsNamed(t *testing.T) {
	ovs, c := connect(t)
	ovs.Vsctl(t, "--", "--id=@t", "create", "Flow_Table", "flow_limit=2", "--", "set", "Bridge", "br0", "flow_tables:7=@t")
	var mods []Mod
	for n := range uint32(4) {
		mods = append(mods, Mod{Add, Flow{Table: 7, Priority: 3, Match: Any().Reg(0, n)}})
	}
	err := c.Bundle(t.Context(), mods)
	var refused *RefusedError
	if !errors.As(err, &refused) || len(refused.Refusals) != 1 || refused.Refusals[0].Index != 2 {
		t.Fatalf("got %v, want a RefusedError of number 2", err)
	}
	if !strings.Contains(err.Error(), "OFPFMFC_TABLE_FULL") || !strings.Contains(err.Error(), "reg0=0x2") {
		t.Errorf("got %q", err)
	}
	if flows := dump(t, c); len(flows) != 0 {
		t.Errorf("got %v, want no flow", flows)
	}
}

func TestManyRefusalsDoNotBlockTheConnection(t *testing.T) {
	_, c := connect(t)
	var mods []Mod
	for n := range uint32(20_000) {
		mods = append(mods, Mod{Add, Flow{Table: 6, Match: Any().with16(oxmTCPDst, uint16(n))}})
	}
	err := c.Bundle(t.Context(), mods)
	var refused *RefusedError
	if !errors.As(err, &refused) || len(refused.Refusals) != len(mods) {
		t.Fatalf("got %v, want %d refusals", err, len(mods))
	}
	if !strings.Contains(err.Error(), "and 19990 more") {
		t.Errorf("got %q", err)
	}
	if err := c.Echo(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBundlesInFlightTogetherDoNotDisturbOneAnother(t *testing.T) {
	_, c := connect(t)
	const workers, rounds = 16, 20
	var wait sync.WaitGroup
	for w := range uint32(workers) {
		wait.Go(func() {
			for r := range uint32(rounds) {
				f := Flow{Table: 9, Priority: uint16(r), Match: Any().Reg(0, w), Actions: []Action{Output(w + 1)}}
				if err := c.Bundle(t.Context(), adds(f)); err != nil {
					t.Error(err)
				}
				var refused *RefusedError
				if err := c.Bundle(t.Context(), adds(f, badGroup(w))); !errors.As(err, &refused) ||
					len(refused.Refusals) != 1 || !refused.Refusals[0].Mod.Flow.Equal(badGroup(w)) {
					t.Errorf("worker %d got %v, want its own refusal", w, err)
				}
			}
		})
	}
	wait.Wait()
	count, err := c.Aggregate(t.Context())
	if err != nil || count.Flows != workers*rounds {
		t.Errorf("got %d flows, %v, want %d", count.Flows, err, workers*rounds)
	}
}

func TestModifyStrictChangesActionsAndAddsNothing(t *testing.T) {
	ovs, c := connect(t)
	f := Flow{Table: 4, Priority: 4, Cookie: 7, Match: IP(), Actions: []Action{Output(1)}}
	changed := f
	changed.Actions = []Action{Output(2)}
	absent := Flow{Table: 4, Priority: 5, Match: ARP()}
	if err := c.Bundle(t.Context(), []Mod{{Add, f}, {ModifyStrict, changed}}); err != nil {
		t.Fatal(err)
	}
	if got, want := ofctlFlows(t, ovs), []string{changed.String()}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := c.Bundle(t.Context(), []Mod{{DeleteStrict, absent}}); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
}

func TestACancelledRequestLeavesTheConnectionUsable(t *testing.T) {
	_, c := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Bundle(ctx, adds(Flow{Table: 1})); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v, want cancelled with nothing applied", err)
	}
	if err := c.EachFlow(ctx, func(InstalledFlow) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	if err := c.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	if flows := dump(t, c); len(flows) != 0 {
		t.Errorf("got %v, want no flow", flows)
	}
}

func TestTheConnectionEndsWithTheSwitch(t *testing.T) {
	ovs, c := connect(t)
	if c.DatapathID() == 0 {
		t.Error("got no datapath id")
	}
	ovs.KillVswitchd()
	select {
	case <-c.Done():
	case <-time.After(limit):
		t.Fatal("the connection did not end")
	}
	if err := c.Echo(t.Context()); !errors.Is(err, ErrClosed) || !errors.Is(c.Err(), ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	ovs.StartVswitchd(t)
	if err := dial(t, ovs).Echo(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestABridgeWithoutOpenFlow13IsRefusedInWords(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	ovs.Vsctl(t, "set", "Bridge", "br0", "protocols=OpenFlow10")
	_, err := Dial(t.Context(), ovs.MgmtSocket("br0"))
	if err == nil || !strings.Contains(err.Error(), "OpenFlow 1.3") && !strings.Contains(err.Error(), "OFPHFC_INCOMPATIBLE") {
		t.Errorf("got %v", err)
	}
	if _, err := Dial(t.Context(), ovs.MgmtSocket("br1")); err == nil {
		t.Error("dialling a bridge that is not there: got no error")
	}
}

func TestAllProtocolsOfABridgeServe(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	ovs.Vsctl(t, "set", "Bridge", "br0", "protocols=OpenFlow13,OpenFlow14,OpenFlow15")
	c := dial(t, ovs)
	if err := c.Bundle(t.Context(), adds(Flow{Table: 1, Actions: []Action{LoadReg(2, 3)}})); err != nil {
		t.Fatal(err)
	}
	if flows := dump(t, c); len(flows) != 1 {
		t.Errorf("got %v", flows)
	}
}

func TestFragmentsModeReachesTheBridge(t *testing.T) {
	ovs, c := connect(t)
	if err := c.SetFragments(t.Context(), FragmentsNXMatch); err != nil {
		t.Fatal(err)
	}
	if got := ovs.Ofctl(t, "get-frags", "br0"); !strings.Contains(got, "nx-match") {
		t.Errorf("got %q, want nx-match", got)
	}
}

func TestErrorsHaveTheNamesThatOvsOfctlGivesThem(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	named := 0
	check := func(e SwitchError, wire string) {
		out, _ := ovs.Command("ovs-ofctl", "ofp-print", wire).Output()
		first, _, _ := strings.Cut(string(out), "\n")
		name := e.Error()
		if strings.HasPrefix(name, "error type") {
			return
		}
		named++
		if !strings.HasSuffix(first, ": "+name) {
			t.Errorf("%v: ovs-ofctl says %q", name, first)
		}
	}
	for _, kind := range []uint16{0, 1, 2, 3, 4, 5, 6, 10} {
		for code := range uint16(17) {
			check(SwitchError{Type: kind, Code: code}, fmt.Sprintf("0401000c00000001%04x%04x", kind, code))
		}
	}
	for code := range uint16(16) {
		e := SwitchError{Type: 0xffff, Code: 2300 + code, Experimenter: experimenterONF}
		check(e, fmt.Sprintf("0401001000000001ffff%04x%08x", e.Code, e.Experimenter))
	}
	for code := range niciraErrors {
		e := SwitchError{Type: 0xffff, Code: code, Experimenter: experimenterNX}
		check(e, fmt.Sprintf("0401001000000001ffff%04x%08x", e.Code, e.Experimenter))
	}
	if named < 100 {
		t.Errorf("only %d errors have a name", named)
	}
}

func TestAHundredThousandFlowsInOneBundle(t *testing.T) {
	_, c := connect(t)
	flows := manyFlows(100_000)
	if err := c.Bundle(t.Context(), adds(flows...)); err != nil {
		t.Fatal(err)
	}
	want := map[Key]Flow{}
	for _, f := range flows {
		want[f.Key()] = f
	}
	for _, f := range dump(t, c) {
		if !f.Equal(want[f.Key()]) {
			t.Fatalf("got %s, want %s", f.Flow, want[f.Key()])
		}
		delete(want, f.Key())
	}
	if len(want) != 0 {
		t.Errorf("%d flows are missing", len(want))
	}
}

// manyFlows are n flows of the shape of table 70, one a pod.
func manyFlows(n int) []Flow {
	flows := make([]Flow, n)
	for i := range flows {
		addr := netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)})
		flows[i] = Flow{Table: 70, Priority: 100, Cookie: uint64(i) + 1, Match: IP().IPDst(netip.PrefixFrom(addr, 32)),
			Actions: []Action{LoadReg(1, uint32(i)), LoadReg(2, uint32(i)+3), Goto(80)}}
	}
	return flows
}
