package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// Meters of copies, each for all of the node.
const (
	// MeterLookups is for answers to look-ups.
	MeterLookups uint32 = 1
	// MeterPolicyLog is for packets about which policies have decided.
	MeterPolicyLog uint32 = 2
)

// TableAnswers is the table whose copies are answers to look-ups; all others are of packets
// about which policies have decided.
const TableAnswers uint8 = tableLocal

// Rates, in copies a second, and bursts. A copy costs the switch about 20 µs of its thread:
// the first is a hundredth of a core at most, and a name that is lost is told when a pod
// looks it up again. The second is as much as a log can be read of; what is lost is lost.
const (
	lookupRate, lookupBurst       = 500, 500
	policyLogRate, policyLogBurst = 100, 100
)

// Meters are those that flows of this package name. They are in the switch before these.
func Meters() []openflow.Meter {
	return []openflow.Meter{
		{ID: MeterLookups, Rate: lookupRate, Burst: lookupBurst},
		{ID: MeterPolicyLog, Rate: policyLogRate, Burst: policyLogBurst},
	}
}

// PolicyLogged is what a flow does first whose decision is logged.
func PolicyLogged() []openflow.Action { return []openflow.Action{openflow.Copy(MeterPolicyLog)} }
