package pipeline

import (
	"fmt"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// TenantFragment lets the pods of one VNID reach one another. It is for every VNID
// in use on the node; VNID 0 needs none, and there is none in subnet mode.
func TenantFragment(n Node, vnid uint32) Fragment {
	f := Fragment{Owner: fmt.Sprintf("vnid %d", vnid)}
	if n.vnid(vnid) == 0 {
		return f
	}
	f.Flows = []openflow.Flow{
		flow(tableAdmission, 100, openflow.Any().Reg(regSource, vnid).Reg(regDest, vnid), openflow.OutputReg(regPort)),
	}
	return f
}

// admission is table 80: may the source reach the destination?
func admission(n Node) []openflow.Flow {
	enter := openflow.OutputReg(regPort)
	flows := []openflow.Flow{
		// The node itself, with its health probes, reaches all its pods.
		flow(tableAdmission, 300, openflow.IP().IPSrc(host(n.Gateway)), enter),
	}
	switch n.Mode {
	case Subnet:
		flows = append(flows, flow(tableAdmission, 200, openflow.Any(), enter))
	case Multitenant:
		flows = append(flows,
			flow(tableAdmission, 200, openflow.Any().Reg(regSource, 0), enter),
			flow(tableAdmission, 200, openflow.Any().Reg(regDest, 0), enter))
	}
	return append(flows, flow(tableAdmission, 0, openflow.Any()))
}
