package pipeline_test

import (
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// tablesThatEnd are the tables that have a flow of priority 0 for every packet that
// can come there: one without a match, or the pair for IP and ARP of table 30.
func tablesThatEnd(flows []openflow.Flow) map[uint8]bool {
	last := map[uint8]map[string]bool{}
	for _, flow := range flows {
		if flow.Priority != 0 {
			continue
		}
		if last[flow.Table] == nil {
			last[flow.Table] = map[string]bool{}
		}
		last[flow.Table][flow.Match.String()] = true
	}
	ends := map[uint8]bool{}
	for table, matches := range last {
		ends[table] = matches[""] || matches["ip"] && matches["arp"]
	}
	return ends
}

func gotoTable(text string) (uint8, bool) {
	_, number, found := strings.Cut(text, "goto_table:")
	table, err := strconv.ParseUint(number, 10, 8)
	return uint8(table), found && err == nil
}

// loadsVNID reports whether the flow writes something else than 0 to reg0 or reg1.
func loadsVNID(text string) bool {
	for action := range strings.SplitSeq(text, ",") {
		_, load, found := strings.Cut(action, "load:")
		if found && !strings.HasPrefix(load, "0->") && !strings.HasSuffix(load, "REG2[]") {
			return true
		}
	}
	return false
}
