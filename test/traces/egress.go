package traces

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/egressmark"
)

// tableLeave is where egress IPs are.
const tableLeave = 100

// ofEgress tells a walk to an egress IP, which was seen with one VNID and on the
// kernel's datapath, for a setting.
func (w Walk) ofEgress(s Setting) (Walk, error) {
	if w.Egress == nil {
		return w, nil
	}
	mark, err := egressmark.Of(s.VNID, 0, egressmark.Reserved{})
	if err != nil {
		return Walk{}, fmt.Errorf("walk %q: %w", w.Name, err)
	}
	carried := fmt.Sprintf("set_field:%#x->pkt_mark", mark)
	if s.Userspace {
		carried = fmt.Sprintf("set_field:%s->eth_src", egressmark.MAC(mark))
	}
	gateway := net.HardwareAddr(append([]byte{0x0a, 0x58}, w.Nodes[w.On].Gateway.AsSlice()...))
	seen, told := fmt.Sprintf("%#x", egressVNID), fmt.Sprintf("%#x", s.VNID)
	w.Steps = slices.Clone(w.Steps)
	for i, step := range w.Steps {
		step.Match = strings.ReplaceAll(step.Match, "reg0="+seen, "reg0="+told)
		step.Actions = slices.Clone(step.Actions)
		for j, action := range step.Actions {
			if action == "set_field:"+seen+"->pkt_mark" {
				action = carried
			}
			action = strings.ReplaceAll(action, "load:"+seen+"->", "load:"+told+"->")
			step.Actions[j] = strings.ReplaceAll(action, "<tun0 MAC>", gateway.String())
		}
		w.Steps[i] = step
	}
	return w, nil
}
