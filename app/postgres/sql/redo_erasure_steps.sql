-- Steps that have left something are not done. $1 erasure, $2 the place where that may stay
DELETE FROM erasure_steps AS done
WHERE
    done.erasure_id = $1 AND done.place = ''
    AND EXISTS (
        SELECT FROM erasure_steps AS found
        WHERE
            found.erasure_id = $1 AND found.step = done.step AND found.left_over > 0
            AND found.place <> $2
    )
