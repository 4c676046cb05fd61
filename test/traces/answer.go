package traces

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Answer is what ofproto/trace said, for one bridge.
type Answer struct {
	Steps []Step
	End   End
}

// End is where a packet ends.
type End struct {
	Port  uint32 // Output port; 0: dropped.
	Node  string // Behind port 1: the tunnel's far end,
	TunID uint64 // and its id.
}

// String is the end in words.
func (e End) String() string {
	switch {
	case e.Port == 0:
		return "drop"
	case e.Node != "":
		return fmt.Sprintf("tunnel to %s with tun_id %d", e.Node, e.TunID)
	}
	return fmt.Sprintf("output port %d", e.Port)
}

// portTunnel is the tunnel's port on every node.
const portTunnel = 1

var (
	bridgeLine  = regexp.MustCompile(`^bridge\("(.*)"\)$`)
	stepLine    = regexp.MustCompile(`^\s*(\d+)\. (?:(\S+), )?priority (\d+)(?:, cookie \S+)?$`)
	noMatchLine = regexp.MustCompile(`^\s*(\d+)\. No match\.`)
	outputNote  = regexp.MustCompile(`^-> output port is (\d+)$`)
	tunIDNote   = regexp.MustCompile(`^-> NXM_NX_TUN_ID\S* is now (\S+)$`)
	endText     = regexp.MustCompile(`^(?:drop|output port (\d+)(?: \(\S+\))?|kernel tunnel to (\S+) with tun_id (\S+))$`)
)

// ParseAnswer reads what ofproto/trace said about one bridge. What happens in other
// bridges, as in the one that owns the underlay with the userspace datapath, is left out.
func ParseAnswer(text, bridge string) (Answer, error) {
	var a Answer
	here, seen := false, false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if found := bridgeLine.FindStringSubmatch(trimmed); found != nil {
			here = found[1] == bridge
			seen = seen || here
			continue
		}
		if strings.HasPrefix(trimmed, "Final flow:") {
			here = false
		}
		if !here || trimmed == "" || strings.HasPrefix(trimmed, "---") {
			continue
		}
		if err := a.take(strings.TrimRight(line, "\n"), trimmed); err != nil {
			return Answer{}, err
		}
	}
	if !seen || len(a.Steps) == 0 {
		return Answer{}, fmt.Errorf("no step in bridge %s: %q", bridge, text)
	}
	if a.End.Port != portTunnel {
		a.End = End{Port: a.End.Port}
	}
	return a, nil
}

// take reads one line of the bridge's part.
func (a *Answer) take(line, trimmed string) error {
	if found := stepLine.FindStringSubmatch(line); found != nil {
		table, err := strconv.Atoi(found[1])
		if err != nil {
			return fmt.Errorf("read step %q: %w", line, err)
		}
		priority, err := strconv.Atoi(found[3])
		if err != nil {
			return fmt.Errorf("read step %q: %w", line, err)
		}
		a.Steps = append(a.Steps, Step{Table: table, Match: found[2], Priority: priority})
		return nil
	}
	if found := noMatchLine.FindStringSubmatch(line); found != nil {
		table, err := strconv.Atoi(found[1])
		if err != nil {
			return fmt.Errorf("read step %q: %w", line, err)
		}
		a.Steps = append(a.Steps, Step{Table: table, Match: "no flow matches", Priority: -1})
		return nil
	}
	if strings.HasPrefix(trimmed, "->") {
		return a.takeNote(trimmed)
	}
	if strings.HasPrefix(trimmed, ">>") || len(a.Steps) == 0 {
		return nil // A remark, or the action of a packet-out before the first step.
	}
	last := &a.Steps[len(a.Steps)-1]
	last.Actions = append(last.Actions, trimmed)
	a.act(trimmed)
	return nil
}

// takeNote reads what the trace says about the action above.
func (a *Answer) takeNote(note string) error {
	if found := outputNote.FindStringSubmatch(note); found != nil {
		port, err := strconv.ParseUint(found[1], 10, 32)
		if err != nil {
			return fmt.Errorf("read %q: %w", note, err)
		}
		a.End.Port = uint32(port)
	}
	if found := tunIDNote.FindStringSubmatch(note); found != nil {
		id, err := strconv.ParseUint(found[1], 0, 64)
		if err != nil {
			return fmt.Errorf("read %q: %w", note, err)
		}
		a.End.TunID = id
	}
	return nil
}

// act follows an action as far as the packet's end depends on it.
func (a *Answer) act(action string) {
	if target, found := strings.CutPrefix(action, "output:"); found {
		if port, err := strconv.ParseUint(target, 10, 32); err == nil {
			a.End.Port = uint32(port)
		}
	}
	if value, found := strings.CutSuffix(action, "->tun_dst"); found {
		a.End.Node = strings.TrimPrefix(value, "set_field:")
	}
}

// parseEnd reads the end of an observed walk.
func parseEnd(text string) (End, error) {
	found := endText.FindStringSubmatch(text)
	if found == nil {
		return End{}, fmt.Errorf("cannot read the end %q", text)
	}
	var end End
	if found[1] != "" {
		port, err := strconv.ParseUint(found[1], 10, 32)
		if err != nil {
			return End{}, fmt.Errorf("read the end %q: %w", text, err)
		}
		end.Port = uint32(port)
	}
	if found[2] != "" {
		id, err := strconv.ParseUint(found[3], 0, 64)
		if err != nil {
			return End{}, fmt.Errorf("read the end %q: %w", text, err)
		}
		end = End{Port: portTunnel, Node: found[2], TunID: id}
	}
	return end, nil
}
