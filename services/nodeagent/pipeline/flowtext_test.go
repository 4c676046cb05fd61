package pipeline_test

import (
	"regexp"
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
		if found && !strings.HasPrefix(load, "0->") && !strings.Contains(load, "->NXM_NX_CT_MARK[]") && !strings.HasSuffix(load, "REG2[]") && !strings.HasSuffix(load, "REG3[]") && !strings.HasSuffix(load, "REG5[]") {
			return true
		}
	}
	return false
}

// looksIntoParts is a flow that takes packets with reg3=0 alone and looks into table
// 111 with other values alone.
var looksIntoParts = regexp.MustCompile(`,reg3=0 actions=move:[^,]*,(?:load:0x[1-9a-f][0-9a-f]*->NXM_NX_REG3\[\],resubmit\(,111\),)+goto_table:120$`)

var recirculation = regexp.MustCompile(`ct\([^()]*\btable=(\d+)`)

// mayCircle says why a packet could pass the flow without end, "" if it cannot. A
// packet goes back by a lookup only: one that takes untracked packets alone, before
// which no later table makes a tracked packet untracked again, as a ct without a
// table does. On the way to table 90, which sends it to another node, to a pod and out of the
// node it may. Or the lookup takes packets alone that have no firewall yet, and gives them one. Table 111
// looks into itself: only where reg3 is 0, which it is not when it looks.
// Where it leaves the tables it may forget, too. What is looked up for policies goes to
// table 22, to which nothing behind table 25 leads. After a takeover what comes tracked to
// table 0 begins anew, untracked, and table 22 looks once more into another zone.
func mayCircle(f openflow.Flow, ends map[uint8]bool) string {
	const lookup = 30 // The first table that looks up; 100 and 101 are the others.
	text := f.String()
	found := recirculation.FindStringSubmatch(text)
	looksUp := f.Table == lookup || f.Table == 100 || f.Table == 101
	once := strings.Contains(text, "ct_state=-trk,") || strings.Contains(text, ",reg5=0,") && strings.Contains(text, "->NXM_NX_REG5[],ct(")
	leaves := strings.HasSuffix(text, ",goto_table:90") || strings.HasSuffix(text, ",goto_table:70") || strings.HasSuffix(text, ",output:2") ||
		f.Table == 70 && strings.HasSuffix(text, ",goto_table:80")
	switch {
	case f.Table == 111 && looksIntoParts.MatchString(text):
		return ""
	case strings.HasSuffix(text, "actions=ct_clear,resubmit(,0)") && (strings.Contains(text, "ct_state=+trk,") || f.Table == 31):
		return "" // Then it is not tracked, and nothing of table 0 leads to 31.
	case strings.Contains(text, "resubmit"):
		return "looks into a table and comes back"
	case f.Table == 22 && strings.Contains(text, "ct_zone=22,") && strings.HasSuffix(text, " actions=ct(table=22)"):
		return "" // Then it is of zone 0.
	case found != nil && found[1] == "22":
		if !ends[22] || f.Table > 25 || f.Table == 22 {
			return "looks up for policies"
		}
	case found != nil && (found[1] != strconv.Itoa(int(f.Table)) || !looksUp || !ends[f.Table]):
		return "looks up for another table"
	case found != nil && !once:
		return "looks up what has been looked up"
	case found == nil && strings.Contains(text, "ct(") && f.Table >= lookup && !leaves && strings.Contains(text, "goto_table"):
		return "forgets that a packet has been looked up"
	}
	return ""
}
