package traces

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Setting is the isolation under which a walk is asked.
type Setting struct {
	// Multitenant: tenants are kept apart; else the mode is subnet.
	Multitenant bool
	// VNID is that of all pods of the walk, 0 in subnet mode.
	VNID uint32
	// Userspace: the datapath is netdev, where the mark of an egress IP is in the MAC.
	Userspace bool
}

// Question is something to ask a node, and the answer that must come.
type Question struct {
	// Args are for ovs-appctl.
	Args []string
	// Steps must be the first steps of the answer; for each, one of several will do.
	Steps [][]Step
	// Whole says that no further step may come, and that the packet must end at End.
	Whole bool
	End   End
}

// NotAsked says why the walk cannot be seen in a setting; "" when it can.
func (w Walk) NotAsked(s Setting) string {
	if w.Name == onePort && s.VNID == 0 {
		return "VNID 0 reaches services by the flow of the walk pod-to-service"
	}
	if w.Egress != nil && !s.Multitenant {
		return "there are no egress IPs in subnet mode"
	}
	return ""
}

// Questions are what to ask a node about the walk. A walk that was seen as single
// flows becomes one question for each run of flows that lead to one another. It is an
// error to ask for a walk that cannot be seen in the setting.
func (w Walk) Questions(s Setting) ([]Question, error) {
	if why := w.NotAsked(s); why != "" {
		return nil, fmt.Errorf("walk %q: %s", w.Name, why)
	}
	w, err := w.ofEgress(s)
	if err != nil {
		return nil, err
	}
	if w.Ask == "" {
		var all []Question
		for _, run := range runs(w.Steps) {
			all = append(all, Question{Args: runArgs(run, s), Steps: s.expect(run)})
		}
		return all, nil
	}
	w = w.ofTenant(s)
	end, err := parseEnd(w.Ends)
	if err != nil {
		return nil, fmt.Errorf("walk %q: %w", w.Name, err)
	}
	if end.Node != "" {
		end.TunID = uint64(s.VNID)
	}
	ask := w.Ask
	if matchMeaning(ask)["in_port"] == "1" {
		ask += fmt.Sprintf(",tun_id=%d", s.VNID)
	}
	return []Question{{
		Args: []string{"ofproto/trace", Bridge, ask}, Steps: s.expect(w.Steps), Whole: true, End: end,
	}}, nil
}

// Bridge is the pod bridge of every node.
const Bridge = "br0"

// ofTenant tells a walk to a service, which was seen with VNID 0, for a tenant: by the
// flow of the service's port, as the walk onePort shows it, and to that port.
func (w Walk) ofTenant(s Setting) Walk {
	if s.VNID == 0 {
		return w
	}
	for _, service := range w.Services {
		for i, step := range w.Steps {
			if step.Table != 60 || step.Match != "reg0=0" {
				continue
			}
			w.Ask += fmt.Sprintf(",tp_dst=%d", service.Port)
			w.Steps = append(slices.Clone(w.Steps[:i]),
				Step{Table: 60, Match: fmt.Sprintf("tcp,nw_dst=%s,tp_dst=%d", service.ClusterIP, service.Port), Priority: 100,
					Actions: []string{"load:0->NXM_NX_REG1[]", "load:0x2->NXM_NX_REG2[]", "goto_table:80"}},
				Step{Table: 80, Priority: 200, Actions: []string{"output:NXM_NX_REG2[]"}})
			return w
		}
	}
	return w
}

// expect tells steps that were seen with VNID 0 in a flat network for a setting.
func (s Setting) expect(seen []Step) [][]Step {
	var all [][]Step
	for _, step := range seen {
		step.Actions = slices.Clone(step.Actions)
		for i, action := range step.Actions {
			if action == "load:0->NXM_NX_REG0[]" || action == "load:0->NXM_NX_REG1[]" {
				step.Actions[i] = strings.Replace(action, "load:0", fmt.Sprintf("load:%d", s.VNID), 1)
			}
		}
		all = append(all, s.admission(step))
	}
	return all
}

// admission tells the one step that differs between the modes: who may enter.
func (s Setting) admission(step Step) []Step {
	const table, flatPriority, tenantPriority = 80, 200, 100
	if !s.Multitenant || step.Table != table || step.Priority != flatPriority || step.Match != "" {
		return []Step{step}
	}
	if s.VNID == 0 {
		// Both flows take the packet, with the same priority: the switch may pick either.
		from, to := step, step
		from.Match, to.Match = "reg0=0", "reg1=0"
		return []Step{from, to}
	}
	step.Match = fmt.Sprintf("reg0=%d,reg1=%d", s.VNID, s.VNID)
	step.Priority = tenantPriority
	return []Step{step}
}

// runs cuts steps where one does not lead to the next.
func runs(steps []Step) [][]Step {
	var all [][]Step
	for i, step := range steps {
		leads := i > 0 && slices.Contains(steps[i-1].Actions, fmt.Sprintf("goto_table:%d", step.Table))
		if !leads {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], step)
	}
	return all
}

// runArgs asks about a packet that all flows of the run match, beginning in the
// run's first table with the setting's VNID as the source's.
func runArgs(run []Step, s Setting) []string {
	fields := map[string]string{}
	for _, step := range run {
		maps.Copy(fields, matchMeaning(step.Match))
	}
	if run[0].Table == tableLeave {
		fields["ct_state"] = "trk" // As whole walks are asked.
	}
	if fields["in_port"] == "" {
		fields["in_port"] = "2"
	}
	var items []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		item := name
		if value := fields[name]; value != "" {
			item += "=" + inside(value)
		}
		items = append(items, item)
	}
	// Protocol names first: ovs-appctl wants a field's protocol before the field.
	slices.SortStableFunc(items, func(a, b string) int {
		return strings.Count(a, "=") - strings.Count(b, "=")
	})
	packet := strings.Join(items, ",")
	if run[0].Table == 0 {
		return []string{"ofproto/trace", Bridge, packet}
	}
	return []string{"ofproto/trace-packet-out", Bridge, packet, fmt.Sprintf("load:%d->NXM_NX_REG0[],resubmit(,%d)", s.VNID, run[0].Table)}
}

// inside picks a value that a match of this value takes: for a prefix an address
// other than its first, which would be the network's own.
func inside(value string) string {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return value
	}
	if prefix.IsSingleIP() {
		return prefix.Addr().String()
	}
	return prefix.Addr().Next().Next().String()
}
