package pipeline

import (
	"fmt"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// StampOwner is the owner of the stamp's flows.
const StampOwner = "stamp"

// stampPriority is above all others: so that every lookup in the table looks there first.
const stampPriority = 65535

// stampTables are those at which the switch begins to look: at what comes in, and at what
// comes back from connection tracking. What it has cached begins at one of them.
var stampTables = []uint8{tableIngress, tableKnown, tableRoute, tableLeave, tableLast}

// stampMeanings are those of the stamp's flows.
var stampMeanings = stampShapes()

func stampShapes() []meaning {
	all := make([]meaning, 0, len(stampTables))
	for _, table := range stampTables {
		all = append(all, meaning{table, "priority=65535,pkt_mark={stamp}/{stamp} actions=drop",
			"no packet: the stamp of the last change, so that nothing cached before outlives it"})
	}
	return all
}

// Stamp is flows that no packet takes, since none has a mark on datapath netdev, but which
// every packet must be found not to match. So all that the switch caches says of these bits
// that they are not set. Each number has half of the bits, in its own way, so that none has
// all of another's.
func Stamp(number uint16) []openflow.Flow {
	flows := make([]openflow.Flow, 0, len(stampTables))
	for _, table := range stampTables {
		mark := uint32(number) | uint32(^number)<<16
		flows = append(flows, flow(table, stampPriority, openflow.Any().PktMark(mark, mark)))
	}
	return flows
}

// StampNumber is the number of whose stamp a flow is, if of any.
func StampNumber(f openflow.Flow) (number uint16, of bool) {
	var mark, mask uint32
	if n, err := fmt.Sscanf(f.Match.String(), "pkt_mark=0x%x/0x%x", &mark, &mask); n != 2 || err != nil {
		return 0, false
	}
	f.Cookie = 0
	for _, one := range Stamp(uint16(mark)) {
		if one.Equal(f) {
			return uint16(mark), true
		}
	}
	return 0, false
}
