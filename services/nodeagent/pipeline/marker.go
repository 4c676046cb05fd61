package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// RuleVersion is the version of the flows that this package produces. Any change of
// a flow raises it: operators see in table 253 which rules a node has.
const RuleVersion = 11

// markerPriority is the priority that Open vSwitch gives a flow for which none is
// named; the marker has always had that one.
const markerPriority = 32768

// marker is table 253, where no packet comes: a note of the mode, the rule version
// and "DMSK". Six bytes are what fits a note without padding, so that the switch
// gives back what it was given.
func marker(n Node) []openflow.Flow {
	note := []byte{byte(n.Mode), RuleVersion, 'D', 'M', 'S', 'K'}
	return []openflow.Flow{flow(tableMarker, markerPriority, openflow.Any(), openflow.Note(note))}
}
