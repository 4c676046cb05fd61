package policyflow

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Where packets go that the tests' layout accepts.
const (
	acceptedEgress  = 7
	acceptedIngress = 8
)

func testLayout() Layout {
	return Layout{
		Egress:  Stage{21, 22, 23, []openflow.Action{openflow.Output(acceptedEgress)}, nil},
		Ingress: Stage{80, 81, 82, []openflow.Action{openflow.Output(acceptedIngress)}, nil},
	}
}

// packet is what flows are asked about.
type packet struct {
	src, dst netip.Addr
	protocol policy.Protocol
	port     uint16
}

// tables is a switch in memory: it reads flows as they are printed, and so
// knows nothing of how they were made.
type tables map[uint8][]simFlow

type simFlow struct {
	priority int
	match    []string
	actions  string
	conj     [][3]int // id, clause, of
}

var conjunctionText = regexp.MustCompile(`conjunction\((\d+),(\d+)/(\d+)\)`)

func simulate(flows []openflow.Flow) tables {
	all := tables{}
	for _, f := range flows {
		head, actions, _ := strings.Cut(f.String(), " actions=")
		parts := strings.Split(head, ",")
		s := simFlow{actions: actions}
		for _, p := range parts[1:] {
			if text, is := strings.CutPrefix(strings.TrimSpace(p), "priority="); is {
				s.priority, _ = strconv.Atoi(text)
			} else {
				s.match = append(s.match, p)
			}
		}
		for _, m := range conjunctionText.FindAllStringSubmatch(actions, -1) {
			id, _ := strconv.Atoi(m[1])
			n, _ := strconv.Atoi(m[2])
			of, _ := strconv.Atoi(m[3])
			s.conj = append(s.conj, [3]int{id, n, of})
		}
		all[f.Table] = append(all[f.Table], s)
	}
	for _, t := range all {
		slices.SortStableFunc(t, func(a, b simFlow) int { return b.priority - a.priority })
	}
	return all
}

func (f simFlow) matches(p packet, conj int) bool {
	wantsConj := false
	for _, m := range f.match {
		field, value, _ := strings.Cut(m, "=")
		switch field {
		case "ip":
		case "tcp", "udp", "sctp":
			if map[string]policy.Protocol{"tcp": policy.TCP, "udp": policy.UDP, "sctp": policy.SCTP}[field] != p.protocol {
				return false
			}
		case "nw_src", "nw_dst":
			a := p.src
			if field == "nw_dst" {
				a = p.dst
			}
			if !strings.Contains(value, "/") {
				value += "/32"
			}
			if !netip.MustParsePrefix(value).Contains(a) {
				return false
			}
		case "tp_dst":
			value, mask, masked := strings.Cut(value, "/")
			v, err := strconv.ParseUint(value, 0, 16)
			m := uint64(0xffff)
			if masked {
				m, err = strconv.ParseUint(mask, 0, 16)
			}
			if err != nil || uint64(p.port)&m != v {
				return false
			}
		case "reg4":
			if value != "0" { // Every packet begins a connection.
				return false
			}
		case "conj_id":
			wantsConj = true
			if value != strconv.Itoa(conj) {
				return false
			}
		default:
			panic("the simulator does not know " + m)
		}
	}
	return !wantsConj || conj > 0
}

// lookup answers the actions of the flow that takes the packet: at each
// priority, from the highest, a flow that is no clause, or a conjunction all of
// whose clauses some flow fills, as ovs-fields(7) says.
func (t tables) lookup(table uint8, p packet) string {
	flows := t[table]
	for i := 0; i < len(flows); {
		priority, filled := flows[i].priority, map[int]map[int]bool{}
		for ; i < len(flows) && flows[i].priority == priority; i++ {
			f := flows[i]
			if !f.matches(p, 0) {
				continue
			}
			if f.conj == nil {
				return f.actions
			}
			for _, c := range f.conj {
				if filled[c[0]] == nil {
					filled[c[0]] = map[int]bool{}
				}
				if filled[c[0]][c[1]] = true; len(filled[c[0]]) == c[2] {
					for _, result := range flows {
						if len(result.match) > 1 && result.matches(p, c[0]) && strings.Contains(strings.Join(result.match, ","), "conj_id=") {
							return result.actions
						}
					}
				}
			}
		}
	}
	return "drop"
}

// allows walks a packet through a direction's tables.
func (t tables) allows(d policy.Direction, p packet) bool {
	table, accepted := uint8(21), acceptedEgress
	if d == policy.Ingress {
		table, accepted = 80, acceptedIngress
	}
	for {
		actions := t.lookup(table, p)
		if next, ok := strings.CutPrefix(actions, "goto_table:"); ok {
			n, _ := strconv.Atoi(next)
			table = uint8(n)
			continue
		}
		return actions == fmt.Sprintf("output:%d", accepted)
	}
}

// fragments keeps the newest fragment of each owner, as a switch has them.
type fragments map[string][]openflow.Flow

func (f fragments) apply(changed []pipeline.Fragment) {
	for _, c := range changed {
		if len(c.Flows) == 0 {
			delete(f, c.Owner)
			continue
		}
		f[c.Owner] = c.Flows
	}
}

func (f fragments) flows() []openflow.Flow {
	var all []openflow.Flow
	for _, flows := range f {
		all = append(all, flows...)
	}
	return all
}
