// Package destination reads where an egress router that is a proxy may lead to.
//
// It owns the texts of EGRESS_HTTP_PROXY_DESTINATION and EGRESS_DNS_PROXY_DESTINATION, which are
// written as for OpenShift's images. It promises that a wrong text is refused with
// every bad line named. It must not resolve names or connect to anything: the agent
// reads these texts too, before the pod is there.
package destination

import (
	"fmt"
	"strings"
)

// maxLines bounds the destinations of one pod.
const maxLines = 1000

// Problems are what is wrong with a text, in the order of its lines.
type Problems []string

func (p *Problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// line is one that says something, without the blanks around it.
type line struct {
	number int // from 1
	text   string
}

func (l line) String() string { return fmt.Sprintf("line %d", l.number) }

// lines are those of a text that are neither empty nor comments. A text without any, or
// with too many, is a problem.
func lines(text string, p *Problems) []line {
	var all []line
	number := 0
	for part := range strings.Lines(text) {
		number++
		if part = strings.TrimSpace(part); part != "" && part[0] != '#' {
			all = append(all, line{number, part})
		}
	}
	switch {
	case len(all) == 0:
		p.addf("at least one destination is needed")
	case len(all) > maxLines:
		p.addf("%d destinations, at most %d can be given", len(all), maxLines)
		return nil
	}
	return all
}

// HostName reads a DNS name as it is compared: small, without the dot at its end. It is "" if
// it is none. What looks like an address is none: a name's last label is not a number.
func HostName(text string) string {
	const maxName, maxLabel = 253, 63
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if name == "" || len(name) > maxName {
		return ""
	}
	number := false
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return ""
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return ""
		}
		number = strings.Trim(label, "0123456789") == ""
	}
	if number {
		return ""
	}
	return name
}
