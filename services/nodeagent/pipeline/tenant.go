package pipeline

import (
	"fmt"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// TenantFragment lets the pods of one VNID reach one another. It is for every VNID
// in use on the node; VNID 0 needs none, and there is none where there are no tenants.
func TenantFragment(n Node, vnid uint32) Fragment {
	f := Fragment{Owner: fmt.Sprintf("vnid %d", vnid)}
	if vnid == 0 || !n.Mode.Tenants() {
		return f
	}
	f.Flows = []openflow.Flow{
		flow(tableAdmission, 100, openflow.Any().Reg(regSource, vnid).Reg(regDest, vnid), enter(n)),
	}
	return f
}

// enter is where a packet goes that VNIDs let in: to the destination's port, or to what
// policies say of it.
func enter(n Node) openflow.Action {
	if n.Mode.Policies() {
		return openflow.Goto(tableEnter)
	}
	return openflow.OutputReg(regPort)
}

// admission is table 80: may the source reach the destination?
func admission(n Node) []openflow.Flow {
	flows := nodeEnters(n)
	if n.Mode.Tenants() {
		flows = append(flows,
			flow(tableAdmission, 200, openflow.Any().Reg(regSource, 0), enter(n)),
			flow(tableAdmission, 200, openflow.Any().Reg(regDest, 0), enter(n)))
	} else {
		flows = append(flows, flow(tableAdmission, 200, openflow.Any(), enter(n)))
	}
	return append(flows, flow(tableAdmission, 0, openflow.Any()))
}

// nodeEnters lets the node itself reach all its pods, so that its health probes do.
// Where policies decide its connections are noted, so that answers pass them.
func nodeEnters(n Node) []openflow.Flow {
	node := openflow.IP().IPSrc(host(n.Gateway))
	if !n.Mode.Policies() {
		return []openflow.Flow{flow(tableAdmission, 300, node, openflow.OutputReg(regPort))}
	}
	own := openflow.IP().InPort(PortGateway).IPSrc(host(n.HostIP))
	return []openflow.Flow{
		flow(tableAdmission, 300, node, note(), openflow.OutputReg(regPort)),
		flow(tableAdmission, 300, own, note(), openflow.OutputReg(regPort)),
	}
}
