package chart

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	// released is a version with or without what git adds after it (v1.2.3-4-gabcdef0).
	released = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)$`)
	// commit is what git says where there is no version.
	commit = regexp.MustCompile(`^[0-9A-Za-z-]+$`)
)

// semantic is what git describes as the version that Helm wants: a semantic one. Sources
// without a release are before the first.
func semantic(described string) (string, error) {
	if match := released.FindStringSubmatch(described); match != nil {
		return match[1], nil
	}
	if !commit.MatchString(described) {
		return "", fmt.Errorf("%q is no version: want vX.Y.Z, or a commit", described)
	}
	// With a letter before it, since a number must not begin with a zero.
	return "0.0.0-g" + strings.TrimPrefix(described, "g"), nil
}
