package pipeline

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// foreign is what Describe says of a flow that no code here can have produced.
const foreign = "not a flow of Damask"

// Describe says in one line what a flow is for, in words, with addresses as they
// are and VNIDs and ports as decimal numbers. It looks at all of the flow: one that
// somebody changed by hand is not described as what it was.
func Describe(f openflow.Flow) string {
	text := f.String()
	for _, s := range sentences[f.Table] {
		if found := s.pattern.FindStringSubmatch(text); found != nil && s.consistent(found[1:]) {
			return s.say(found[1:])
		}
	}
	return foreign
}

// A sentence is a shape of flows and what to say about them.
type sentence struct {
	pattern *regexp.Regexp
	places  []string // Names of the places in the pattern, in order.
	words   string
}

// consistent reports whether a place that the shape has twice holds the same twice.
func (s sentence) consistent(found []string) bool {
	for i, place := range s.places {
		if first := slices.Index(s.places, place); found[first] != found[i] {
			return false
		}
	}
	return true
}

// say puts what was found into the words.
func (s sentence) say(found []string) string {
	words := s.words
	for i, place := range s.places {
		words = strings.ReplaceAll(words, "{"+place+"}", inWords(place, found[i]))
	}
	return words
}

// inWords writes numbers as operators know them, not in hex.
func inWords(place, text string) string {
	switch place {
	case "vnid", "port", "place", "rank", "rule", "firewall":
		number, err := strconv.ParseUint(text, 0, 32)
		if err != nil {
			return text
		}
		return strconv.FormatUint(number, 10)
	case "ports":
		return strings.ReplaceAll(strings.ReplaceAll(text, "output:", ""), ",", ", ")
	case "nodes":
		text = strings.NewReplacer("set_field:", "", "->tun_dst,output:1", "").Replace(text)
		return strings.ReplaceAll(text, ",", ", ")
	case "mode":
		number, err := strconv.ParseUint(text, 16, 8)
		if err == nil && number <= uint64(Combined) {
			return Mode(number).String()
		}
	case "version":
		number, err := strconv.ParseUint(text, 16, 8)
		if err != nil {
			return text
		}
		return strconv.FormatUint(number, 10)
	}
	return text
}

// sentences holds the meanings by table.
var sentences = read(meanings)

var place = regexp.MustCompile(`\\\{([a-z]+)\\\}`)

// lists are the places that stand for one action or more, each of one kind, and {match}
// for whatever policies ask for.
var lists = map[string]string{
	"match":   `([^ ]+)`,
	"ports":   `(output:\d+(?:,output:\d+)*)`,
	"nodes":   `((?:set_field:[0-9.]+->tun_dst,output:1,?)+)`,
	"clauses": `(conjunction\([^ ]+\))`,
	"parts":   `((?:load:0x[0-9a-f]+->NXM_NX_REG3\[\],resubmit\(,111\),?)+)`,
}

// read turns the shapes into patterns: a place stands for a list, or for anything but a
// comma or a blank.
func read(all []meaning) map[uint8][]sentence {
	byTable := map[uint8][]sentence{}
	for _, m := range all {
		quoted := regexp.QuoteMeta("table=" + strconv.Itoa(int(m.table)) + ", " + m.flow)
		s := sentence{words: m.words}
		for _, found := range place.FindAllStringSubmatch(quoted, -1) {
			s.places = append(s.places, found[1])
		}
		s.pattern = regexp.MustCompile("^" + place.ReplaceAllStringFunc(quoted, func(found string) string {
			if list, is := lists[place.FindStringSubmatch(found)[1]]; is {
				return list
			}
			return `([^, ]+)`
		}) + "$")
		byTable[m.table] = append(byTable[m.table], s)
	}
	return byTable
}
