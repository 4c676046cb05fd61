package nftables

import (
	"crypto/sha256"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// fingerprint is a rule's comment: what it is for, and eight digits that change when
// the rule's meaning does. The kernel never changes a rule; it can be deleted, or
// replaced together with its comment. So comments compare as the rules would, also
// with a kernel that prints an expression otherwise than it was sent.
func (r rule) fingerprint() (string, error) {
	sum := sha256.New()
	for _, e := range r.exprs {
		data, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e)
		if err != nil {
			return "", fmt.Errorf("marshal rule %q: %w", r.about, err)
		}
		sum.Write(data)
	}
	const digest = 4
	return fmt.Sprintf("%s [%x]", r.about, sum.Sum(nil)[:digest]), nil
}

// fingerprints are those of all rules of a chain.
func (c chain) fingerprints() ([]string, error) {
	prints := make([]string, 0, len(c.rules))
	for _, r := range c.rules {
		print, err := r.fingerprint()
		if err != nil {
			return nil, err
		}
		prints = append(prints, print)
	}
	return prints, nil
}
