package traces_test

import (
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/test/traces"
)

// TestAWrongFlowIsNoticed changes one flow at a time behind the comparison's back.
func TestAWrongFlowIsNoticed(t *testing.T) {
	walks := map[string]traces.Walk{}
	for _, walk := range load(t) {
		walks[walk.Name] = walk
	}
	for _, c := range []struct {
		name, walk string
		change     []string // Of ovs-ofctl; the bridge is put in second place.
		want       string
	}{
		{"a flow is missing", "pod-to-local-pod", []string{"--strict", "del-flows", "table=80,priority=200"}, "step 6"},
		{"another register is loaded", "pod-to-local-pod",
			[]string{"mod-flows", "table=70,ip,nw_dst=10.130.0.5,actions=load:1->NXM_NX_REG1[],load:3->NXM_NX_REG2[],goto_table:80"}, "step 5"},
		{"actions have another order", "pod-to-local-pod",
			[]string{"mod-flows", "table=70,ip,nw_dst=10.130.0.5,actions=load:3->NXM_NX_REG2[],load:0->NXM_NX_REG1[],goto_table:80"}, "step 5"},
		{"another port is loaded", "pod-to-local-pod",
			[]string{"mod-flows", "table=70,ip,nw_dst=10.130.0.5,actions=load:0->NXM_NX_REG1[],load:2->NXM_NX_REG2[],goto_table:80"}, "end: want output port 3, got output port 2"},
		{"a flow of another priority is before it", "pod-to-external",
			[]string{"add-flow", "table=100,priority=1,actions=goto_table:101"}, "step 5"},
		{"another node is asked", "pod-to-remote-pod, leaving",
			[]string{"mod-flows", "table=90,ip,nw_dst=10.131.0.0/23,actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:192.168.108.113->tun_dst,output:1"},
			"end: want tunnel to 192.168.108.111 with tun_id 0, got tunnel to 192.168.108.113 with tun_id 0"},
		{"a match is wider", "table 0 of a 3.11 node",
			[]string{"add-flow", "table=0,priority=260,ip,in_port=2,actions=drop"}, "step 1"},
		{"an unknown sender is let in", "tunnel packet from an unknown sender is dropped",
			[]string{"add-flow", "table=10,priority=100,tun_src=192.168.108.111,actions=goto_table:30"}, "want no further step"},
	} {
		t.Run(c.name, func(t *testing.T) {
			walk, found := walks[c.walk]
			if !found {
				t.Fatalf("there is no walk %q", c.walk)
			}
			site, err := walk.Site(traces.Setting{})
			if err != nil {
				t.Fatal(err)
			}
			sw := program(t, site, traces.Setting{}, ovstest.Dummy)
			last := len(c.change) - 1
			args := append(append([]string{}, c.change[:last]...), "br0", c.change[last])
			sw.Ofctl(t, args...)
			if got := allDifferences(t, walk, tracer(sw)); !strings.Contains(got, c.want) {
				t.Errorf("got differences %q, want one with %q", got, c.want)
			}
		})
	}
}

func allDifferences(t *testing.T, walk traces.Walk, trace traces.Tracer) string {
	t.Helper()
	questions, err := walk.Questions(traces.Setting{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, question := range questions {
		differences, err := question.Ask(t.Context(), trace)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, differences...)
	}
	return strings.Join(all, "\n")
}

func TestAWalkThatNobodyDecidedAboutIsAnError(t *testing.T) {
	walks, err := traces.Load(observed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := traces.Judged(append(walks, traces.Walk{Name: "multicast to three nodes"})); err == nil ||
		!strings.Contains(err.Error(), `"multicast to three nodes": decide`) {
		t.Errorf("a new walk: got error %v", err)
	}
	if _, err := traces.Judged(walks[1:]); err == nil || !strings.Contains(err.Error(), "not in the document") {
		t.Errorf("a walk that is gone: got error %v", err)
	}
}
